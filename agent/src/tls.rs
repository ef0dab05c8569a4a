//! Whom TLS trusts: the system's roots, a file of further ones, or one certificate by its fingerprint.
//!
//! Invariant: nothing here turns the verification off. A pinned certificate is the server's own, or one that the server's
//! own chain and name are verified against.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use reqwest::{Certificate, ClientBuilder};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// The system's roots, and those of a file.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    extra: Vec<Certificate>,
}

impl Trust {
    /// The system's roots and the certificates of a PEM file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn with_file(path: &Path) -> Result<Self> {
        let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
        let extra = Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("{}: not PEM certificates", path.display()))?;
        if extra.is_empty() {
            bail!("{}: no certificate in it (-----BEGIN CERTIFICATE-----)", path.display());
        }
        use_ring();
        // A certificate that is none would else be told at the first delivery.
        ClientBuilder::new()
            .tls_certs_only(extra.clone())
            .build()
            .with_context(|| format!("{}: not a certificate", path.display()))?;
        Ok(Self { extra })
    }

    /// A client that trusts these.
    pub(crate) fn apply(&self, builder: ClientBuilder) -> ClientBuilder {
        use_ring();
        builder.tls_certs_merge(self.extra.iter().cloned())
    }
}

/// Has rustls compute by ring.
pub(crate) fn use_ring() {
    // Fails when a provider is there already, which is as good.
    let _ = ring::default_provider().install_default();
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// From 64 hexadecimal digits, with or without colons.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':' && !c.is_whitespace())
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |sum, d| sum << 4 | d)).collect();
        if digits.len() != 64 {
            return None;
        }
        bytes.try_into().ok().map(Self)
    }

    fn fits(self, certificate: &CertificateDer<'_>) -> bool {
        Sha256::digest(certificate.as_ref())[..] == self.0
    }

    /// A configuration that trusts the certificate of this fingerprint and no other.
    pub(crate) fn config(self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Pinned { fingerprint: self, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    }
}

/// Accepts the server whose own certificate has the fingerprint, or whose chain ends in one that has.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.fingerprint.fits(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        // Elasticsearch prints its authority's fingerprint, not the server's.
        let Some(authority) = intermediates.iter().find(|one| self.fingerprint.fits(one)) else {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_every_usual_form() {
        let plain = "00ff".repeat(16);
        let colons =
            plain.as_bytes().chunks(2).map(|c| String::from_utf8_lossy(c)).collect::<Vec<_>>().join(":");
        assert_eq!(Fingerprint::parse(&colons.to_uppercase()), Fingerprint::parse(&plain));
        assert!(Fingerprint::parse(&plain).is_some());
        for wrong in ["", "00ff", &format!("{plain}00"), &"zz".repeat(32)] {
            assert_eq!(Fingerprint::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(file.path(), text).unwrap();
            let error = format!("{:#}", Trust::with_file(file.path()).unwrap_err());
            assert!(error.contains(&file.path().display().to_string()), "{error}");
        }
    }
}
