//! Mail to people: through SMTP, or as files in a folder when no server is configured. The only user of lettre.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, Mailbox, Message};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use crate::config::MailConfig;
use crate::domain::{MailId, Secret};

/// Mails under way at once, the wait between tries included; further ones are dropped, and said to be.
const SLOTS: usize = 64;
/// For each step of a conversation with the server.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Waits before the second and the third try.
const RETRIES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(20)];

/// What is sent. The text may hold a credential.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: Secret<String>,
}

/// Messages never quote an address or a text.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("{0}")]
    Setting(&'static str),
    #[error("the address or the text cannot be written as a mail: {0}")]
    Unwritable(String),
    #[error("the SMTP server: {0}")]
    Smtp(String),
    #[error("mail.outbox: {0}")]
    Outbox(#[from] std::io::Error),
}

/// Sends mails. Clones share the bound.
#[derive(Clone)]
pub struct Mailer {
    from: Mailbox,
    way: Way,
    slots: Arc<Semaphore>,
}

#[derive(Clone)]
enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Outbox(PathBuf),
}

impl Mailer {
    /// # Errors
    /// [`MailError::Setting`], which names the setting.
    pub fn new(config: &MailConfig) -> Result<Self, MailError> {
        let from = config.from.parse();
        let from =
            from.map_err(|_| MailError::Setting("mail.from: is not an address such as `Sentinel <s@example.com>`"))?;
        let way = match &config.smtp_url {
            None => Way::Outbox(config.outbox.clone()),
            Some(url) => {
                let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose());
                // The error would quote the address, and with it a password.
                let transport =
                    transport.map_err(|_| MailError::Setting("mail.smtp_url: is not the address of a server"))?;
                Way::Smtp(transport.timeout(Some(TIMEOUT)).build())
            }
        };
        Ok(Self { from, way, slots: Arc::new(Semaphore::new(SLOTS)) })
    }

    /// Makes a mail and sends it in the background. `make` answers None when there is nothing to send; whatever it takes
    /// to find out does not show in the time that this call takes. Failures are logged.
    pub fn send_later<F>(&self, make: F)
    where
        F: Future<Output = Option<Mail>> + Send + 'static,
    {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            tracing::warn!("a mail was dropped: {SLOTS} are under way");
            return;
        };
        let mailer = self.clone();
        tokio::spawn(async move {
            let _slot = slot;
            if let Some(mail) = make.await
                && let Err(error) = mailer.send(&mail).await
            {
                tracing::error!(%error, "a mail could not be sent");
            }
        });
    }

    /// Sends one mail; a server that is away or busy is tried three times.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let id = MailId::new();
        let message = self.write(id, mail)?;
        let transport = match &self.way {
            Way::Outbox(folder) => return put(folder, id, &message.formatted()).await,
            Way::Smtp(transport) => transport,
        };
        let mut waits = RETRIES.into_iter();
        loop {
            let Err(error) = transport.send(message.clone()).await else { return Ok(()) };
            match waits.next() {
                Some(wait) if !error.is_permanent() => tokio::time::sleep(wait).await,
                // A server's own words may quote the recipient; its code does not.
                _ => return Err(MailError::Smtp(reason(&error))),
            }
        }
    }

    fn write(&self, id: MailId, mail: &Mail) -> Result<Message, MailError> {
        let to: Mailbox =
            mail.to.parse().map_err(|_| MailError::Unwritable("the recipient is no address".to_owned()))?;
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(mail.subject.clone())
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(body(mail.text.expose()))
            .map_err(|error| MailError::Unwritable(error.to_string()))
    }
}

/// Plain text stays as it is, so that a link in a file of the outbox can be followed: lettre would encode any line of more
/// than 76 characters, where SMTP takes 998.
fn body(text: &str) -> Body {
    let plain = text.is_ascii() && text.lines().all(|line| line.len() <= 998);
    if plain {
        let lines: String = text.lines().flat_map(|line| [line, "\r\n"]).collect();
        Body::dangerous_pre_encoded(lines.into_bytes(), ContentTransferEncoding::SevenBit)
    } else {
        Body::new(text.to_owned())
    }
}

fn reason(error: &lettre::transport::smtp::Error) -> String {
    match error.status() {
        Some(code) => format!("answered {code}"),
        None if error.is_timeout() => "did not answer in time".to_owned(),
        None if error.is_tls() => "TLS failed".to_owned(),
        None => "cannot be reached, or does not speak SMTP".to_owned(),
    }
}

/// The file appears whole or not at all; nobody else on the machine may read it.
async fn put(folder: &Path, id: MailId, text: &[u8]) -> Result<(), MailError> {
    tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await?;
    let unfinished = folder.join(format!(".{id}"));
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).await?;
    file.write_all(text).await?;
    file.sync_all().await?;
    tokio::fs::rename(unfinished, folder.join(format!("{id}.eml"))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    fn mail(to: &str) -> Mail {
        Mail { to: to.to_owned(), subject: "Grüße".to_owned(), text: Secret::new("A line.\nAnother.\n".to_owned()) }
    }

    #[tokio::test]
    async fn without_a_server_a_mail_becomes_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = MailConfig { outbox: dir.path().join("outbox"), ..MailConfig::default() };
        Mailer::new(&config).unwrap().send(&mail("founder@acme.com")).await.unwrap();
        let files: Vec<_> = std::fs::read_dir(&config.outbox).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        assert!(file.extension().is_some_and(|ending| ending == "eml"));
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&config.outbox).unwrap().permissions().mode() & 0o777, 0o700);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("To: founder@acme.com") && text.contains("A line.\r\nAnother."), "{text}");
    }

    /// Answers `answers`, one to a line of the client's, and returns what the client said.
    async fn server(listener: TcpListener, answers: Vec<&'static str>) -> Vec<String> {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 test\r\n").await.unwrap();
        let (mut said, mut answers, mut in_text) = (Vec::new(), answers.into_iter(), false);
        while let Ok(Some(line)) = lines.next_line().await {
            in_text = (in_text || said.last().is_some_and(|last| last == "DATA")) && line != ".";
            said.push(line);
            if !in_text {
                write.write_all(answers.next().unwrap_or("221 bye").as_bytes()).await.unwrap();
                write.write_all(b"\r\n").await.unwrap();
            }
        }
        said
    }

    async fn mailer() -> (Mailer, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Some(Secret::new(format!("smtp://{}", listener.local_addr().unwrap())));
        let config = MailConfig { from: "Sentinel <s@acme.com>".into(), smtp_url: url, outbox: PathBuf::new() };
        (Mailer::new(&config).unwrap(), listener)
    }

    #[tokio::test]
    async fn a_mail_goes_through_the_server() {
        let (mailer, listener) = mailer().await;
        let answers = vec!["250 test", "250 ok", "250 ok", "354 go on", "250 queued"];
        let server = tokio::spawn(server(listener, answers));
        mailer.send(&mail("founder@acme.com")).await.unwrap();
        let said = server.await.unwrap();
        assert!(said.iter().any(|line| line == "MAIL FROM:<s@acme.com>"), "{said:?}");
        assert!(said.iter().any(|line| line == "RCPT TO:<founder@acme.com>"), "{said:?}");
        assert!(said.iter().any(|line| line == "Another."), "{said:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_told_by_its_code_alone() {
        let (mailer, listener) = mailer().await;
        let server = tokio::spawn(server(listener, vec!["250 test", "250 ok", "550 no founder@acme.com here"]));
        let error = mailer.send(&mail("founder@acme.com")).await.unwrap_err().to_string();
        assert!(error.contains("550") && !error.contains("founder"), "{error}");
        server.await.unwrap();
    }

    #[test]
    fn a_long_line_stays_whole_and_what_is_not_plain_is_encoded() {
        let link = format!("https://sentinel.example/{}", "x".repeat(200));
        assert_eq!(body(&format!("{link}\n.\n")).as_ref(), format!("{link}\r\n.\r\n").as_bytes());
        for text in ["Grüße".to_owned(), "x".repeat(2000)] {
            assert!(body(&text).as_ref().is_ascii(), "{text}");
            assert!(body(&text).as_ref().split(|byte| *byte == b'\n').all(|line| line.len() < 1000), "{text}");
        }
    }

    #[tokio::test]
    async fn an_address_cannot_smuggle_a_header() {
        let config = MailConfig { outbox: PathBuf::from("/nonexistent"), ..MailConfig::default() };
        let mailer = Mailer::new(&config).unwrap();
        for bad in ["a@acme.com\r\nBcc: b@acme.com", "", "acme.com"] {
            assert!(matches!(mailer.send(&mail(bad)).await, Err(MailError::Unwritable(_))), "{bad:?}");
        }
    }

    #[test]
    fn settings_that_are_wrong_are_named_and_not_quoted() {
        let with = |from: &str, url: Option<&str>| {
            let smtp_url = url.map(|url| Secret::new(url.to_owned()));
            Mailer::new(&MailConfig { from: from.to_owned(), smtp_url, outbox: PathBuf::new() })
                .err()
                .unwrap()
                .to_string()
        };
        assert!(with("nobody", None).starts_with("mail.from"));
        let error = with("s@acme.com", Some("smtp://user:hunter2@host:99999"));
        assert!(error.starts_with("mail.smtp_url") && !error.contains("hunter2"), "{error}");
    }
}
