use std::collections::VecDeque;
use std::io::Read as _;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

/// Requests that are kept.
const MAX_REQUESTS: usize = 1024;
/// Bytes of bodies that are kept.
const MAX_BYTES: usize = 64 << 20;
/// What a compressed body may become.
const MAX_DECODED: u64 = 64 << 20;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    /// Without its transfer coding, with its content coding.
    pub body: Bytes,
}

impl Recorded {
    /// The body without its content coding, as a provider reads it; unchanged when it cannot be decoded.
    #[must_use]
    pub fn decoded_body(&self) -> Bytes {
        let coding = self.headers.get(http::header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        let mut decoded = Vec::new();
        let reading = match coding {
            Some("gzip") => flate2::read::MultiGzDecoder::new(&*self.body).take(MAX_DECODED).read_to_end(&mut decoded),
            Some("deflate") => flate2::read::ZlibDecoder::new(&*self.body).take(MAX_DECODED).read_to_end(&mut decoded),
            Some("br") => brotli::Decompressor::new(&*self.body, 4096).take(MAX_DECODED).read_to_end(&mut decoded),
            Some("zstd") => {
                zstd::Decoder::new(&*self.body).and_then(|decoder| decoder.take(MAX_DECODED).read_to_end(&mut decoded))
            }
            _ => return self.body.clone(),
        };
        if reading.is_ok() { decoded.into() } else { self.body.clone() }
    }
}

/// The latest requests within both bounds; the last one is always kept.
#[derive(Default)]
pub(super) struct Records {
    requests: VecDeque<Recorded>,
    bytes: usize,
}

impl Records {
    pub fn push(&mut self, request: Recorded) {
        self.bytes += request.body.len();
        self.requests.push_back(request);
        while self.requests.len() > 1 && (self.requests.len() > MAX_REQUESTS || self.bytes > MAX_BYTES) {
            if let Some(oldest) = self.requests.pop_front() {
                self.bytes -= oldest.body.len();
            }
        }
    }

    pub fn all(&self) -> Vec<Recorded> {
        self.requests.iter().cloned().collect()
    }

    pub fn last(&self) -> Option<Recorded> {
        self.requests.back().cloned()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: usize) -> Recorded {
        Recorded {
            method: Method::POST,
            target: Uri::from_static("/"),
            headers: HeaderMap::new(),
            body: vec![0; bytes].into(),
        }
    }

    #[test]
    fn what_is_kept_is_bounded_by_number_and_bytes() {
        let mut records = Records::default();
        (0..MAX_REQUESTS + 5).for_each(|n| records.push(request(n % 7)));
        assert_eq!(records.all().len(), MAX_REQUESTS);
        (0..3).for_each(|_| records.push(request(MAX_BYTES / 2)));
        assert_eq!(records.all().len(), 2);
        records.push(request(MAX_BYTES + 1));
        assert_eq!(records.all().len(), 1);
        assert_eq!(records.bytes, MAX_BYTES + 1);
    }
}
