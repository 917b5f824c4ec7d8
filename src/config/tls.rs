use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

/// TLS of a listener: on when both files are named. They are read anew when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM: the server's certificate, then those that lead to its authority.
    pub cert_file: Option<PathBuf>,
    /// PEM: the certificate's private key.
    pub key_file: Option<PathBuf>,
    /// PEM: authorities of clients; every client has to present a certificate of one of them then. Read at start.
    pub client_ca_file: Option<PathBuf>,
}

/// What the two files of a certificate held.
#[derive(PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: Vec<u8>,
    /// As secret as it looks; kept to see a change.
    key: zeroize::Zeroizing<Vec<u8>>,
}

impl TlsConfig {
    /// None without TLS.
    ///
    /// # Errors
    /// What keeps a file from being read, with the name of its key.
    pub fn read(&self) -> Result<Option<TlsFiles>, Vec<(&'static str, String)>> {
        let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) else { return Ok(None) };
        let read = |name, path: &PathBuf| {
            std::fs::read(path).map_err(|error| (name, format!("cannot read {}: {error}", path.display())))
        };
        match (read("cert_file", cert), read("key_file", key)) {
            (Ok(cert), Ok(key)) => Ok(Some(TlsFiles { cert, key: key.into() })),
            (cert, key) => Err([cert.err(), key.err()].into_iter().flatten().collect()),
        }
    }

    /// None where clients need no certificate.
    ///
    /// # Errors
    /// What keeps the file from being used.
    pub fn client_verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, (&'static str, String)> {
        let Some(path) = &self.client_ca_file else { return Ok(None) };
        let fault = |fault: String| ("client_ca_file", format!("{}: {fault}", path.display()));
        let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&pem).map_err(fault)? {
            roots.add(certificate).map_err(|error| fault(format!("a certificate cannot be used: {error}")))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(|verifier| Some(verifier as _)).map_err(|error| fault(error.to_string()))
    }

    /// Every fault of the files, with the name of its key.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = match self.read() {
            Ok(Some(files)) => files.certified().err().into_iter().collect(),
            Ok(None) => Vec::new(),
            Err(mut faults) => {
                // What can be read may be wrong as well.
                if let Some(Ok(pem)) = self.cert_file.as_deref().map(std::fs::read) {
                    faults.extend(certificates(&pem).err().map(|fault| ("cert_file", fault)));
                }
                faults
            }
        };
        faults.extend(self.client_verifier().err());
        faults
    }
}

impl TlsFiles {
    /// The certificate, ready for handshakes.
    ///
    /// # Errors
    /// What is wrong with the files, with the name of the key.
    pub fn certified(&self) -> Result<CertifiedKey, (&'static str, String)> {
        let chain = certificates(&self.cert).map_err(|fault| ("cert_file", fault))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| ("key_file", format!("not a PEM file with a private key: {error}")))?;
        CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|error| ("key_file", format!("does not fit cert_file: {error}")))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not a PEM file with certificates: {error}"))?;
    if found.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(found) }
}
