use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Sends `tracing` events (and the `log` lines of dependencies) to standard error. A second call does nothing.
pub fn init_logs(config: &LogConfig) {
    let filter = EnvFilter::try_new(directives(&config.level)).unwrap_or_else(|_| EnvFilter::new(directives("info")));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let _ = match config.format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}

/// What dependencies say that must not be logged: pingora's lines carry paths with their queries, and hosts (what matters
/// of them is logged by `gateway`, without); HTTP libraries tell header fields, and sqlx values, below `warn`.
const WITHHELD: &str =
    "pingora=off,pingora_core=off,pingora_proxy=off,pingora_http=off,h2=warn,hyper=warn,hyper_util=warn,sqlx=warn";

/// A bare level is Sentinel's own, and dependencies are heard from `warn` on; a list of directives is taken as it stands.
fn directives(level: &str) -> String {
    if level.contains(['=', ',']) {
        return format!("{level},{WITHHELD}");
    }
    let dependencies = if matches!(level.to_ascii_lowercase().as_str(), "off" | "error") { level } else { "warn" };
    format!("{dependencies},sentinel={level},{WITHHELD}")
}

/// Replaces the standard panic hook by one that says where, but not what: a slice's panic quotes the text it cut.
pub fn withhold_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a defect: this thread panicked");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_level_makes_dependencies_tell_what_they_carry() {
        for level in
            ["trace", "debug", "info", "info,hyper=trace,sqlx=debug,pingora=info", "trace,sentinel::audit=warn"]
        {
            let filter = EnvFilter::try_new(directives(level)).unwrap().to_string();
            let parts: Vec<&str> = filter.split(',').collect();
            for withheld in WITHHELD.split(',') {
                let target = withheld.split('=').next().unwrap();
                let of_target: Vec<_> = parts.iter().filter(|part| part.split('=').next() == Some(target)).collect();
                assert_eq!(of_target, [&withheld], "{level}: {filter}");
            }
        }
    }

    #[test]
    fn a_bare_level_is_sentinels_own() {
        assert!(directives("debug").starts_with("warn,sentinel=debug,"));
        assert!(directives("error").starts_with("error,sentinel=error,"));
    }
}
