//! The certificate of the TLS listener, exchanged while connections go on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pingora::listeners::tls::TlsSettings;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::config::{TlsConfig, TlsFiles};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// What handshakes take their certificate from.
pub struct Certificates {
    config: TlsConfig,
    /// What was last read, also when it could not be used.
    files: Mutex<TlsFiles>,
    current: RwLock<Arc<CertifiedKey>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Certificates {
    /// None without TLS.
    ///
    /// # Errors
    /// Every fault of the files, with its key.
    pub fn load(config: &TlsConfig) -> Result<Option<Arc<Self>>, Vec<String>> {
        let told = |(key, fault): (&str, String)| format!("gateway.tls.{key}: {fault}");
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(faults.into_iter().map(told).collect());
        }
        let read = config.read().map_err(|faults| faults.into_iter().map(told).collect::<Vec<_>>())?;
        let Some(files) = read else { return Ok(None) };
        let current = files.certified().map_err(|fault| vec![told(fault)])?;
        let verifier = config.client_verifier().map_err(|fault| vec![told(fault)])?;
        let current = RwLock::new(Arc::new(current));
        Ok(Some(Arc::new(Self { config: config.clone(), files: Mutex::new(files), current, verifier })))
    }

    /// Takes what the files hold now; what cannot be used leaves the certificate as it is. Blocks.
    pub fn reload(&self) {
        let files = match self.config.read() {
            Ok(Some(files)) => files,
            Ok(None) => return,
            Err(faults) => {
                for (key, fault) in faults {
                    tracing::warn!(key, fault, "gateway.tls: the certificate stays as it is");
                }
                return;
            }
        };
        let mut known = self.files.lock();
        if *known == files {
            return;
        }
        match files.certified() {
            Ok(certified) => {
                *self.current.write() = Arc::new(certified);
                tracing::info!("gateway.tls: another certificate is in use");
            }
            // Also between the exchange of the two files, which is no single step.
            Err((key, fault)) => tracing::warn!(key, fault, "gateway.tls: the certificate stays as it is"),
        }
        *known = files;
    }

    /// Looks at the files now and then until `stop` turns true.
    pub async fn keep_fresh(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while tokio::time::timeout(INTERVAL, stop.wait_for(|stop| *stop)).await.is_err() {
            let certificates = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || certificates.reload()).await;
        }
    }

    /// # Errors
    /// Never in practice: no file is read.
    pub(super) fn settings(self: &Arc<Self>) -> pingora::Result<TlsSettings> {
        let mut settings = TlsSettings::intermediate("", "")?;
        settings.set_cert_resolver(Arc::clone(self) as _);
        settings.enable_h2();
        if let Some(verifier) = &self.verifier {
            settings.set_client_cert_verifier(Arc::clone(verifier));
        }
        Ok(settings)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("config", &self.config).finish_non_exhaustive()
    }
}
