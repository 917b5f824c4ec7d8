//! How the domain's own types are stored: ids as `UUID` or 16 bytes, times as `TIMESTAMPTZ` or microseconds.

use std::fmt::{self, Write as _};

use serde::de::DeserializeOwned;
use sqlx::database::Database;
use sqlx::decode::Decode;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::types::Type;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::types::uuid::Uuid;
use sqlx::{Postgres, Sqlite};

use super::{KeyHash, StoreError, Tier};
use crate::domain::{
    AdminEventId, ApiKeyId, AuditId, CredentialId, DataSetId, InvitationId, OrgId, PolicyId, RecoveryCodeId,
    ReviewCommentId, RolloutId, SavedFilterId, SessionId, Timestamp, UserId, WorkspaceId,
};

macro_rules! ids {
    ($($id:ident),+) => {$(
        impl<DB: Database> Type<DB> for $id where Uuid: Type<DB> {
            fn type_info() -> DB::TypeInfo {
                <Uuid as Type<DB>>::type_info()
            }
            fn compatible(info: &DB::TypeInfo) -> bool {
                <Uuid as Type<DB>>::compatible(info)
            }
        }

        impl<'q, DB: Database> Encode<'q, DB> for $id where Uuid: Encode<'q, DB> {
            fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                self.uuid().encode(buffer)
            }
        }

        impl<'r, DB: Database> Decode<'r, DB> for $id where Uuid: Decode<'r, DB> {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                Uuid::decode(value).map(Self::from_uuid)
            }
        }
    )+};
}

ids!(
    AdminEventId,
    OrgId,
    UserId,
    WorkspaceId,
    ApiKeyId,
    PolicyId,
    SessionId,
    AuditId,
    RecoveryCodeId,
    ReviewCommentId,
    RolloutId,
    SavedFilterId,
    DataSetId,
    CredentialId,
    InvitationId
);

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.datetime(), buffer)
    }
}

impl Decode<'_, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        <DateTime<Utc> as Decode<Postgres>>::decode(value).map(Self::from)
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An integer and not text: text of mixed precision sorts wrongly.
impl Type<Sqlite> for Timestamp {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
    fn compatible(info: &SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(info)
    }
}

impl Encode<'_, Sqlite> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.micros(), buffer)
    }
}

impl Decode<'_, Sqlite> for Timestamp {
    fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        <i64 as Decode<Sqlite>>::decode(value).map(Self::from_micros)
    }
}

impl<DB: Database> Type<DB> for KeyHash
where
    Vec<u8>: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <Vec<u8> as Type<DB>>::type_info()
    }
    fn compatible(info: &DB::TypeInfo) -> bool {
        <Vec<u8> as Type<DB>>::compatible(info)
    }
}

impl<'q, DB: Database> Encode<'q, DB> for KeyHash
where
    Vec<u8>: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.to_vec().encode(buffer)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for KeyHash
where
    Vec<u8>: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes = Vec::<u8>::decode(value)?;
        Ok(Self(<[u8; 32]>::try_from(bytes.as_slice())?))
    }
}

impl Tier {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Starter => "starter",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }
}

impl TryFrom<String> for Tier {
    type Error = UnknownWord;

    fn try_from(text: String) -> Result<Self, UnknownWord> {
        [Self::Free, Self::Starter, Self::Pro, Self::Enterprise]
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or(UnknownWord(text))
    }
}

/// A word of a fixed set that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is unknown to this version")]
pub struct UnknownWord(String);

/// A stored count: never negative, whatever its width in Rust.
#[derive(Clone, Copy, Debug, sqlx::Type)]
#[sqlx(transparent)]
pub(super) struct Count(i64);

/// A stored count or nothing.
#[derive(Clone, Copy, Debug, sqlx::Type)]
#[sqlx(transparent)]
pub(super) struct OptionalCount(Option<i64>);

macro_rules! counts {
    ($($number:ty),+) => {$(
        impl TryFrom<Count> for $number {
            type Error = std::num::TryFromIntError;
            fn try_from(count: Count) -> Result<Self, Self::Error> {
                Self::try_from(count.0)
            }
        }

        impl TryFrom<OptionalCount> for Option<$number> {
            type Error = std::num::TryFromIntError;
            fn try_from(count: OptionalCount) -> Result<Self, Self::Error> {
                count.0.map(<$number>::try_from).transpose()
            }
        }
    )+};
}

counts!(u8, u16, u32, u64);

/// A number as the column takes it. Beyond 2^63 there is nothing to count.
pub(super) fn stored(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Reads the word of a unit variant, as serde writes it.
pub(super) fn parsed<T: DeserializeOwned>(
    table: &'static str,
    column: &'static str,
    word: String,
) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|cause| corrupt(table, column, cause))
}

pub(super) fn corrupt(table: &'static str, column: &'static str, cause: impl fmt::Display) -> StoreError {
    StoreError::Corrupt { table, column, cause: cause.to_string() }
}
