use crate::config::{LogConfig, LogFormat};

/// Sends `tracing` events (and the `log` lines of dependencies) to standard error. A second call does nothing.
pub fn init_logs(config: &LogConfig) {
    use tracing_subscriber::EnvFilter;

    // Pingora's own lines carry paths and hosts; what matters of them is logged here once, without.
    let filter =
        EnvFilter::try_new(format!("{},pingora=off,pingora_core=off,pingora_proxy=off,sqlx=warn", config.level))
            .unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match config.format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}
