//! What can go wrong: the codes, their statuses, and what they mean.

use axum::http::StatusCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $status:literal $name:literal, $title:literal);+ $(;)?) => {
        /// What went wrong, for programs. Stable: a code is never given another meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant),+
        }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),+ }
            }

            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// What it means, for people: answered by `GET /problems/{code}`.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    MalformedJson = 400 "malformed_json", "Malformed JSON";
    /// The invitation is unknown, expired, revoked or was accepted before, or whoever sent it may no longer do so. Ask for
    /// another.
    InvalidInvitation = 400 "invalid_invitation", "Invalid invitation";
    /// The link to set a new password is unknown, expired, or was used before. Ask for another.
    InvalidResetToken = 400 "invalid_reset_token", "Invalid reset token";
    /// The token restores no organization: it was used, the 30 days are over, or it never was one.
    InvalidRestoreToken = 400 "invalid_restore_token", "Invalid restore token";
    /// A query parameter is unknown, given twice, or has a value that it cannot have.
    InvalidQuery = 400 "invalid_query", "Invalid query";
    /// A header of the request cannot be read.
    InvalidHeader = 400 "invalid_header", "Invalid header";
    /// The request carries no access token, or one that is not valid or has expired. Refresh it or log in.
    Unauthenticated = 401 "unauthenticated", "Authentication required";
    /// There is no active account with this address and password.
    InvalidCredentials = 401 "invalid_credentials", "Invalid credentials";
    /// The refresh token is unknown, expired, or was used before. Log in again.
    InvalidRefreshToken = 401 "invalid_refresh_token", "Invalid refresh token";
    /// The code of the second factor is wrong, was used before, or has passed.
    WrongSecondFactor = 401 "invalid_mfa_code", "Invalid code";
    /// The token of a half-done log-in is not valid or has expired. Log in again.
    InvalidMfaToken = 401 "invalid_mfa_token", "Invalid MFA token";
    /// The ticket of an event stream is unknown, was used before, or is older than 30 seconds. Get another.
    InvalidTicket = 401 "invalid_ticket", "Invalid ticket";
    /// The log-in at the organization's own provider did not lead to an account here.
    SsoFailed = 401 "sso_failed", "Sign-on failed";
    /// The request carries no valid API key.
    InvalidApiKey = 401 "invalid_api_key", "Invalid API key";
    /// The person or key lacks the permission that the operation needs.
    PermissionDenied = 403 "permission_denied", "Permission denied";
    /// The person logged in with a temporary password and must set a new one by `POST /auth/password` first.
    PasswordChangeRequired = 403 "password_change_required", "Password change required";
    /// The organization demands a second factor: enrol one by `POST /auth/mfa/enrol` first.
    MfaEnrolmentRequired = 403 "mfa_enrolment_required", "Second factor required";
    /// The organization lets people log in through its own provider only.
    SsoRequired = 403 "sso_required", "Sign-on required";
    /// This installation lets nobody register; its operator creates organizations.
    RegistrationClosed = 403 "registration_closed", "Registration is closed";
    /// Nobody can give a role or permission beyond their own, or change a person who stands above them.
    GrantNotAllowed = 403 "grant_not_allowed", "Grant not allowed";
    /// The organization has as many of these as its plan allows.
    LimitReached = 403 "limit_reached", "Limit reached";
    /// There is no such thing, or it is not yours.
    NotFound = 404 "not_found", "Not found";
    /// The path exists, but not with this method; `Allow` lists those it has.
    MethodNotAllowed = 405 "method_not_allowed", "Method not allowed";
    /// The change collides with what is there.
    Conflict = 409 "conflict", "Conflict";
    /// The organization wants whatever comes into force in its policies to be approved by a second person: make a draft, and have
    /// somebody approve it.
    ApprovalRequired = 409 "approval_required", "Approval required";
    /// The request with this `Idempotency-Key` is still under way. Ask again later with the same key.
    IdempotencyInFlight = 409 "idempotency_in_flight", "Request in flight";
    /// The object changed since it was read: `If-Match` names an older version. Read it again.
    PreconditionFailed = 412 "precondition_failed", "Precondition failed";
    /// The body is larger than this face accepts.
    RequestTooLarge = 413 "request_too_large", "Request too large";
    /// The body must be sent as `application/json`.
    UnsupportedMediaType = 415 "unsupported_media_type", "Unsupported media type";
    /// The body is JSON, but not what the operation takes; `errors` lists every fault.
    ValidationFailed = 422 "validation_failed", "Validation failed";
    /// The `Idempotency-Key` was used for another operation or body within the last 24 hours.
    IdempotencyMismatch = 422 "idempotency_mismatch", "Idempotency key reused";
    /// The operation is a WebSocket: open it as one.
    UpgradeRequired = 426 "upgrade_required", "Upgrade required";
    /// The operation needs `If-Match` with the `ETag` of the version that is to be changed.
    PreconditionRequired = 428 "precondition_required", "Precondition required";
    /// Too many requests of this key, session or address; `Retry-After` says when to come back.
    RateLimitExceeded = 429 "rate_limit_exceeded", "Rate limit exceeded";
    /// The organization has used up its requests of this calendar month (UTC). The operator can raise the limit.
    InsufficientQuota = 429 "insufficient_quota", "Insufficient quota";
    /// The organization has as many event streams open as it can have on one node; `Retry-After` says when to come back.
    TooManyStreams = 429 "too_many_streams", "Too many event streams";
    /// Too many attempts to log in failed, for this account or from this address; `Retry-After` says when to come back.
    LoginThrottled = 429 "login_throttled", "Too many attempts to log in";
    /// Too many wrong codes of the second factor; `Retry-After` says when one is looked at again.
    MfaLocked = 429 "mfa_locked", "Second factor locked";
    /// Sentinel failed. The log has the cause under the same `request_id`.
    Internal = 500 "internal_error", "Internal error";
    /// The organization's sign-on provider cannot be reached, or describes itself wrongly.
    SsoProviderUnavailable = 502 "sso_provider_unavailable", "Sign-on provider unavailable";
    /// More people log in, or watch events, at the moment than this node can serve; `Retry-After` says when to come back.
    Overloaded = 503 "overloaded", "Overloaded";
    /// The database cannot be reached at the moment.
    DatabaseUnavailable = 503 "database_unavailable", "Database unavailable";
    /// The text cannot be judged or recorded at the moment, so it is refused.
    GuardUnavailable = 503 "guard_unavailable", "Guard unavailable";
    /// The request took too long and was given up.
    Timeout = 503 "timeout", "Timeout";
}

impl Code {
    /// The code for an answer that the framework made without one.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::MalformedJson,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            413 => Self::RequestTooLarge,
            415 => Self::UnsupportedMediaType,
            503 => Self::Timeout,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
