use std::path::Path;

use serde_yaml::Value;

use super::*;
use crate::config::{ByteSize, Environment, HumanDuration};
use crate::domain::Dialect;

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

fn written(text: &str) -> (tempfile::TempDir, Flags) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sentinel.yaml");
    std::fs::write(&file, text).unwrap();
    (dir, Flags { file: Some(file), ..Flags::default() })
}

fn load_with(text: &str, pairs: &[(&str, &str)], set: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let (_dir, mut flags) = written(text);
    flags.set = env(set).collect();
    load(&flags, env(pairs))
}

fn faults(text: &str, pairs: &[(&str, &str)], set: &[(&str, &str)]) -> Vec<String> {
    match load_with(text, pairs, set) {
        Err(ConfigError::Faults(faults)) => faults,
        other => panic!("expected faults, got {other:?}"),
    }
}

#[test]
fn without_any_layer_the_defaults_are_in_force() {
    let config = load(&Flags::default(), env(&[("PATH", "/bin"), ("HOME", "/")])).unwrap();
    assert_eq!(config.database.url, "sqlite://./data/sentinel.db");
    let mut expected = Config::default();
    expected.fill_in();
    assert_eq!(config, expected);
}

#[test]
fn later_layers_win() {
    const FILE: &str = "gateway: { listen: '127.0.0.1:1', threads: 1 }";
    const SENTINEL: (&str, &str) = ("SENTINEL_GATEWAY__THREADS", "2");
    for (file, env, set, expected) in [
        ("", &[][..], &[][..], 0),
        (FILE, &[], &[], 1),
        (FILE, &[SENTINEL], &[], 2),
        (FILE, &[SENTINEL], &[("gateway.threads", "3")], 3),
        (FILE, &[SENTINEL], &[("gateway.threads", "3"), ("gateway.threads", "4")], 4),
        ("", &[SENTINEL], &[], 2),
        ("", &[], &[("gateway.threads", "3")], 3),
    ] {
        let config = load_with(file, env, set).unwrap();
        assert_eq!(config.gateway.threads, expected, "{file:?} {env:?} {set:?}");
    }
}

#[test]
fn the_seeds_names_work_and_sentinels_own_win() {
    let pairs = [
        ("JWT_SECRET_KEY", "12345678901234567890123456789012"),
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "20"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "3"),
        ("DATABASE_URL", "postgresql://sentinel_user:password@localhost/sentinel"),
        ("REDIS_URL", "redis://localhost:6379/0"),
        ("API_HOST", "::1"),
        ("API_PORT", "9000"),
        ("API_WORKERS", "7"),
        ("ENVIRONMENT", "Staging"),
        ("DEBUG", "true"),
    ];
    let loaded = explain(&Flags::default(), env(&pairs)).unwrap();
    let config = loaded.config;
    assert_eq!(config.auth.jwt_secret.unwrap().expose(), "12345678901234567890123456789012");
    assert_eq!(config.auth.access_token_ttl, HumanDuration::secs(20 * 60));
    assert_eq!(config.auth.refresh_token_ttl, HumanDuration::secs(3 * 86_400));
    assert_eq!(config.database.url, "postgresql://sentinel_user:password@localhost/sentinel");
    assert_eq!(config.admin.listen, "[::1]:9000");
    assert_eq!(config.admin.threads, 7);
    assert_eq!(config.environment, Environment::Staging);
    assert_eq!(config.log.level, "debug");
    assert!(loaded.notes.iter().any(|note| note.contains("REDIS_URL")), "{:?}", loaded.notes);
    assert_eq!(loaded.origins.get("admin.threads").map(String::as_str), Some("API_WORKERS"));

    let both = [("API_WORKERS", "7"), ("SENTINEL_ADMIN__THREADS", "8")];
    assert_eq!(load(&Flags::default(), env(&both)).unwrap().admin.threads, 8);

    let port = load_with("admin: { listen: '127.0.0.1:1' }", &[("API_PORT", "2")], &[]).unwrap();
    assert_eq!(port.admin.listen, "127.0.0.1:2", "the host of the file stays");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let config = load(&Flags::default(), env(&[("JWT_SECRET_KEY", ""), ("SENTINEL_GATEWAY__THREADS", "")])).unwrap();
    assert_eq!(config.auth.jwt_secret, None);
    assert_eq!(config.gateway.threads, 0);
}

#[test]
fn secrets_are_read_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let jwt = file("jwt", "a secret of thirty-two bytes, yes\n");
    let url = file("url", "postgres://u:p@h/d\r\n");
    let key = file("key", "sk-upstream");
    for name in ["JWT_SECRET_KEY_FILE", "SENTINEL_AUTH__JWT_SECRET_FILE"] {
        let config = load(&Flags::default(), env(&[(name, &jwt)])).unwrap();
        assert_eq!(config.auth.jwt_secret.unwrap().expose(), "a secret of thirty-two bytes, yes", "{name}");
    }
    for name in ["DATABASE_URL_FILE", "SENTINEL_DATABASE__URL_FILE"] {
        assert_eq!(load(&Flags::default(), env(&[(name, &url)])).unwrap().database.url, "postgres://u:p@h/d", "{name}");
    }
    let config = load(&Flags::default(), env(&[("SENTINEL_UPSTREAMS__OPENAI__API_KEY_FILE", &key)])).unwrap();
    assert_eq!(config.upstreams["openai"].api_key.as_ref().unwrap().expose(), "sk-upstream");
    let former = file("former", "the first secret of thirty-two bytes\n\n  the second secret, as long at least\n");
    let config = load(&Flags::default(), env(&[("SENTINEL_AUTH__JWT_PREVIOUS_SECRETS_FILE", &former)])).unwrap();
    let secrets: Vec<_> = config.auth.previous_secrets().collect();
    assert_eq!(secrets, ["the first secret of thirty-two bytes", "the second secret, as long at least"]);
    let smtp = file("smtp", "smtps://u:p@h\n");
    let config = load(&Flags::default(), env(&[("SENTINEL_MAIL__SMTP_URL_FILE", &smtp)])).unwrap();
    assert_eq!(config.mail.smtp_url.unwrap().expose(), "smtps://u:p@h");

    let empty = file("empty", "\n");
    for (pairs, expected) in [
        (vec![("JWT_SECRET_KEY_FILE", "/nonexistent")], "cannot read /nonexistent"),
        (vec![("JWT_SECRET_KEY_FILE", empty.as_str())], "is empty"),
        (vec![("JWT_SECRET_KEY_FILE", jwt.as_str()), ("JWT_SECRET_KEY", "x")], "are both set"),
        (vec![("SENTINEL_AUTH__JWT_SECRET_FILE", jwt.as_str()), ("SENTINEL_AUTH__JWT_SECRET", "x")], "are both set"),
    ] {
        let faults = faults("", &pairs, &[]);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
    }
}

#[test]
fn unknown_keys_are_refused_with_path_and_origin() {
    let faults = faults(
        "gateway: { lisen: x }\nupstream: {}\nadmin: { listen: { host: x } }\ndatabase: 5",
        &[("SENTINEL_GATEWAY__PORT", "1"), ("SENTINEL_NONSENSE", "1"), ("SENTINEL_UPSTREAMS__OPENAI__URLL", "x")],
        &[("audit.synk", "never")],
    );
    for (path, origin) in [
        ("gateway.lisen: unknown key; known here: listen, tls", "sentinel.yaml"),
        ("admin.listen.host: takes one value", "sentinel.yaml"),
        ("database: must be a section", "sentinel.yaml"),
        ("gateway.port: unknown key", "SENTINEL_GATEWAY__PORT"),
        ("nonsense: unknown key; known here: environment", "SENTINEL_NONSENSE"),
        ("upstreams.openai.urll: unknown key", "SENTINEL_UPSTREAMS__OPENAI__URLL"),
        ("audit.synk: unknown key", "--set"),
    ] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(path) && fault.ends_with(&format!("{origin})"))),
            "{path} ({origin}) is not in {faults:#?}"
        );
    }
    // `upstream: {}` has no leaf, but must not pass unseen.
    assert!(faults.iter().any(|fault| fault.starts_with("upstream: unknown key")), "{faults:#?}");
    assert_eq!(faults.len(), 8, "{faults:#?}");
}

#[test]
fn doubled_keys_are_refused() {
    for text in ["gateway: { threads: 1, threads: 2 }", "log: {}\nlog: {}"] {
        let error = load_with(text, &[], &[]).unwrap_err();
        assert!(matches!(&error, ConfigError::Invalid { message, .. } if message.contains("duplicate")), "{error}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = faults(
        "
gateway: { threads: many, block_status: 500, max_request_body: 2 megs, listen: 8080 }
admin: { listen: nowhere }
auth: { jwt_secret: short, jwt_previous_secrets: short, lockout_failures: 0 }
mail: { from: nobody, smtp_url: 'http://x:pw@h' }
upstreams:
  azure: { url: 'ftp://x' }
  Bad Name: { dialect: openai, url: 'http://u:p@h' }
routes:
  - { path: v1/chat, upstream: nobody }
",
        &[("SENTINEL_AUDIT__SYNC", "sometimes"), ("ENVIRONMENT", "prod"), ("DATABASE_URL", "mysql://root:pw@h/d")],
        &[("log.level", "lo=ud=er")],
    );
    for start in [
        "gateway.threads: ",
        "gateway.block_status: must be 400 or 403",
        "gateway.max_request_body: `2 megs` is not a size",
        "gateway.listen: ",
        "admin.listen: `nowhere` is not an address",
        "auth.jwt_secret: must have at least 32 bytes",
        "auth.jwt_previous_secrets: must have at least 32 bytes each",
        "auth.lockout_failures: must be between 1 and",
        "mail.from: must be an address",
        "mail.smtp_url: must begin with smtp:// or smtps://",
        "upstreams.azure.dialect: is missing",
        "upstreams.azure.url: must be http://",
        "upstreams.Bad Name: names consist of",
        "upstreams.Bad Name.url: must not hold a login",
        "routes[0].path: must begin with `/`",
        "routes[0].upstream: there is no upstream `nobody`",
        "audit.sync: ",
        "environment: ",
        "database.url: must begin with",
        "log.level: ",
    ] {
        assert!(faults.iter().any(|fault| fault.starts_with(start)), "`{start}` is not in {faults:#?}");
    }
    assert_eq!(faults.len(), 20, "{faults:#?}");
    assert!(faults.iter().all(|fault| fault.ends_with(')')), "each names its origin: {faults:#?}");
    assert!(!faults.iter().any(|fault| fault.contains("short") || fault.contains("pw")), "{faults:#?}");
}

#[test]
fn every_faulty_route_is_told() {
    let faults =
        faults("routes: [{ path: /a }, { path: /b, upstream: openai }, { pat: /c, upstream: openai }]", &[], &[]);
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].starts_with("routes[0]: ") && faults[1].starts_with("routes[2]: "), "{faults:#?}");
}

#[test]
fn secrets_are_neither_quoted_nor_taken_from_the_command_line() {
    let number = faults("auth: { jwt_secret: 12345678901234 }", &[], &[]);
    assert!(number[0].contains("must be text") && !number[0].contains("1234"), "{number:?}");

    let flags = faults(
        "",
        &[],
        &[
            ("auth.jwt_secret", "hunter2-hunter2-hunter2-hunter2-hunter2"),
            ("auth.jwt_previous_secrets", "hunter2-hunter2-hunter2-hunter2-hunter2"),
            ("mail.smtp_url", "smtps://u:hunter2@h"),
            ("upstreams.openai.api_key", "hunter2"),
            ("database.url", "postgres://u:hunter2@h/d"),
        ],
    );
    assert_eq!(flags.len(), 5, "{flags:?}");
    assert!(flags.iter().all(|fault| fault.contains("_FILE") && !fault.contains("hunter2")), "{flags:?}");
    load_with("", &[], &[("database.url", "sqlite://x.db")]).unwrap();
}

#[test]
fn upstreams_are_added_changed_and_removed() {
    let config = load_with(
        "upstreams: { my-vllm: { dialect: openai, url: 'http://vllm:8000' }, bedrock: null, gemini: {}, openai: { url: 'http://a' } }",
        &[
            ("SENTINEL_UPSTREAMS__MY_VLLM__READ_TIMEOUT", "9s"),
            ("SENTINEL_UPSTREAMS__LOCAL__DIALECT", "ollama"),
            ("SENTINEL_UPSTREAMS__LOCAL__URL", "http://127.0.0.1:1"),
            ("SENTINEL_ROUTES", "[{ path: /x, upstream: my-vllm }]"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.upstreams["my-vllm"].read_timeout, HumanDuration::secs(9));
    assert_eq!(config.upstreams["local"].dialect, Dialect::Ollama);
    assert_eq!(config.upstreams["openai"].url, "http://a");
    assert_eq!(config.upstreams["openai"].connect_timeout, HumanDuration::secs(5));
    assert!(!config.upstreams.contains_key("bedrock") && config.upstreams.contains_key("gemini"));
    assert_eq!(config.routes[0].upstream, "my-vllm");
}

#[test]
fn faults_of_providers_and_their_tls_are_told_at_once() {
    let text = "upstreams:
  openai: { azure_api_version: '2024?', aws_region: eu-west-1, client_key_file: k.pem, total_timeout: 0s }
  ollama: { sni: a/b, client_cert_file: c.pem, client_key_file: k.pem }
  gemini: { azure_api_version: 2024-10-21, credential_field: key_parameter }
  anthropic: { credential_field: cookie }
";
    let told = faults(text, &[], &[]);
    for key in [
        "upstreams.openai.azure_api_version: must",
        "upstreams.openai.aws_region: needs",
        "upstreams.openai.client_cert_file: is missing",
        "upstreams.openai.total_timeout:",
        "upstreams.ollama.sni: must",
        "upstreams.ollama.sni: needs",
        "upstreams.ollama.client_cert_file: needs",
        "upstreams.gemini.azure_api_version: needs",
        "upstreams.anthropic.credential_field:",
    ] {
        assert_eq!(told.iter().filter(|fault| fault.starts_with(key)).count(), 1, "{key} in {told:#?}");
    }
    assert_eq!(told.len(), 9, "{told:#?}");
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_not_ours() {
    let pairs = [
        ("SENTINEL_SERVICE_HOST", "10.0.0.1"),
        ("SENTINEL_SERVICE_PORT_HTTP", "8080"),
        ("SENTINEL_PORT", "tcp://10.0.0.1:8080"),
        ("SENTINEL_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("SENTINEL_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("SENTINEL_ADMIN_SERVICE_HOST", "10.0.0.1"),
    ];
    load(&Flags::default(), env(&pairs)).unwrap();
    assert_eq!(faults("", &[("SENTINEL_PORT", "8080")], &[]).len(), 1, "a number is somebody's mistake");
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let (_dir, flags) = written("gateway:\n  max_request_body: 1MiB\nlog:\n  # level: debug\n");
    let file = flags.file.unwrap();
    let config = load(&Flags::default(), env(&[("SENTINEL_CONFIG", file.to_str().unwrap())])).unwrap();
    assert_eq!(config.gateway.max_request_body, ByteSize::mib(1));
    let missing = Flags { file: Some("/nonexistent/s.yaml".into()), ..Flags::default() };
    assert!(matches!(load(&missing, env(&[])), Err(ConfigError::Unreadable { .. })));
}

/// The leaves of `tree` as paths.
fn leaves(tree: &Value, path: &str, out: &mut Vec<String>) {
    match tree {
        Value::Mapping(mapping) if !mapping.is_empty() => {
            for (key, value) in mapping {
                leaves(value, &format!("{path}.{}", key.as_str().unwrap()), out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

#[test]
fn the_reference_file_holds_every_key_with_its_default() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/sentinel.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(serde_yaml::from_str::<Config>(&text).unwrap(), Config::default());

    let (mut expected, mut written) = (Vec::new(), Vec::new());
    leaves(&serde_yaml::to_value(Config::default()).unwrap(), "", &mut expected);
    leaves(&serde_yaml::from_str(&text).unwrap(), "", &mut written);
    expected.sort();
    written.sort();
    assert_eq!(written, expected);
    for optional in [
        "# api_key:",
        "# credential_field:",
        "# azure_api_version:",
        "# aws_region:",
        "# ca_file:",
        "# client_cert_file:",
        "# client_key_file:",
        "# sni:",
        "# total_timeout:",
        "# addresses:",
        "# balance:",
        "# fallback:",
        "# max_concurrent:",
        "# eject_after:",
        "# eject_for:",
        "# health_path:",
        "# health_interval:",
    ] {
        assert!(text.contains(optional), "{optional}");
    }
    let flags = Flags { file: Some(file), ..Flags::default() };
    assert_eq!(load(&flags, env(&[])).unwrap(), load(&Flags::default(), env(&[])).unwrap());
}

#[test]
fn a_shown_configuration_holds_no_secret() {
    let pairs = [
        ("JWT_SECRET_KEY", "hunter2-hunter2-hunter2-hunter2-hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("SENTINEL_DATABASE__MIGRATE_URL", "postgres://o:hunter2@h/d?password=hunter2"),
        ("SENTINEL_UPSTREAMS__OPENAI__API_KEY", "hunter2"),
        ("SENTINEL_AUTH__JWT_PREVIOUS_SECRETS", "hunter2-hunter2-hunter2-hunter2-hunter2"),
        ("SENTINEL_MAIL__SMTP_URL", "smtps://u:hunter2@h"),
    ];
    let config = load(&Flags::default(), env(&pairs)).unwrap();
    let shown = serde_yaml::to_string(&config.masked()).unwrap();
    assert!(shown.contains("postgres://u:***@h/d") && !shown.contains("hunter2"), "{shown}");
    assert!(!format!("{config:?}").contains("hunter2"));
}
