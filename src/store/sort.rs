//! Lists in an order that the caller chooses: by one column, ties by id, paged after the last row seen (keyset).
//!
//! A cursor carries the order it was made under; under another it is refused, for the rows would neither join nor end.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sqlx::types::uuid::Uuid;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

use super::page::{END_OF_TIME, Position as _};
use super::statement::{Statement, TenantSql};
use super::{Page, PageRequest, StoreError};
use crate::domain::Timestamp;

/// Where a time that is not set stands in an order: before every other.
pub(super) const NEVER: Timestamp = Timestamp::from_micros(0);

/// A column that a list can be sorted by. The default one is what a list is sorted by, descending, when nobody asks.
pub trait Column: Copy + Default + PartialEq + Send + Sync + 'static {
    /// Every column with its name in the API.
    const ALL: &'static [(&'static str, Self)];

    /// What the column holds.
    fn kind(self) -> Kind;
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Time,
    Text,
    /// The id itself, which is ordered by the time at which it was made.
    Id,
}

/// The order of a list: `created_at`, or `-created_at` for the latest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort<C> {
    pub by: C,
    pub descending: bool,
}

impl<C: Column> Default for Sort<C> {
    fn default() -> Self {
        Self { by: C::default(), descending: true }
    }
}

impl<C: Column> Sort<C> {
    /// As the API writes it.
    fn name(self) -> Cow<'static, str> {
        let name = C::ALL.iter().find(|(_, column)| *column == self.by).map_or("", |(name, _)| *name);
        if self.descending { format!("-{name}").into() } else { name.into() }
    }

    fn all() -> impl Iterator<Item = Self> {
        C::ALL.iter().flat_map(|(_, by)| [true, false].map(|descending| Self { by: *by, descending }))
    }

    /// The statement of this direction.
    pub(super) const fn of(self, both: Directions) -> TenantSql {
        if self.descending { both.descending } else { both.ascending }
    }

    /// Where the page starts.
    pub(super) fn start(self, page: &PageRequest) -> Result<Start, StoreError> {
        let last = page.cursor.as_ref().map(|cursor| self.read(cursor)).transpose()?;
        Ok(Start { kind: self.by.kind(), last })
    }

    /// The page of `rows`, of which there may be one too many; `place` is a row's value in the column, and its id.
    pub(super) fn page<T>(self, page: &PageRequest, rows: Vec<T>, place: impl Fn(&T) -> (Value, Uuid)) -> Page<T> {
        page.cut(rows, |row| {
            let (value, id) = place(row);
            self.write(&value, id)
        })
    }

    fn write(self, value: &Value, id: Uuid) -> String {
        let name = self.name();
        let mut bytes = vec![u8::try_from(name.len()).unwrap_or_default()];
        bytes.extend(name.as_bytes());
        bytes.extend(id.as_bytes());
        match value {
            Value::Time(at) => bytes.extend(at.micros().write()),
            Value::Text(text) => bytes.extend(text.as_bytes()),
            Value::Id => {}
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read(self, cursor: &str) -> Result<(Value, Uuid), StoreError> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| StoreError::Missing("cursor"))?;
        let parts = || {
            let (length, rest) = bytes.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            let (id, value) = rest.split_at_checked(16)?;
            Some((name, Uuid::from_slice(id).ok()?, value))
        };
        let (name, id, value) = parts().ok_or(StoreError::Missing("cursor"))?;
        if name != self.name().as_bytes() {
            let of_another = Self::all().any(|sort| sort.name().as_bytes() == name);
            return Err(StoreError::Missing(if of_another { "cursor of this sort" } else { "cursor" }));
        }
        let value = match self.by.kind() {
            Kind::Time => i64::read(value)
                .filter(|at| (0..=END_OF_TIME.micros()).contains(at))
                .map(|at| Value::Time(Timestamp::from_micros(at))),
            // PostgreSQL takes no U+0000 in a text.
            Kind::Text => String::from_utf8(value.to_vec()).ok().filter(|text| !text.contains('\0')).map(Value::Text),
            Kind::Id => value.is_empty().then_some(Value::Id),
        };
        Ok((value.ok_or(StoreError::Missing("cursor"))?, id))
    }
}

/// A row's value in the column that its list is sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Time(Timestamp),
    Text(String),
    Id,
}

/// The last row of the page before; of the first page none.
#[derive(Debug)]
pub(super) struct Start {
    kind: Kind,
    last: Option<(Value, Uuid)>,
}

impl Start {
    /// Binds `$2` and `$3` of a statement that [`sorted!`] made.
    pub(super) fn bind(self, statement: Statement<'_>) -> Statement<'_> {
        let (value, id) = self.last.unzip();
        match (self.kind, value) {
            (Kind::Time, Some(Value::Time(at))) => statement.bind(Some(at)),
            (Kind::Time, _) => statement.bind(None::<Timestamp>),
            (Kind::Text, Some(Value::Text(text))) => statement.bind(Some(text)),
            (Kind::Text, _) => statement.bind(None::<String>),
            (Kind::Id, _) => statement.bind(id),
        }
        .bind(id)
    }

    /// The same for rows that are sorted by a time and of which there are many: the bound is always there, so that the
    /// statement has one shape and its index is used from the place where the page starts.
    pub(super) fn after(self, descending: bool) -> (Timestamp, Uuid) {
        match self.last {
            Some((Value::Time(at), id)) => (at, id),
            _ if descending => (END_OF_TIME, Uuid::max()),
            _ => (NEVER, Uuid::nil()),
        }
    }
}

/// A statement in its two directions.
#[derive(Clone, Copy)]
pub(super) struct Directions {
    pub ascending: TenantSql,
    pub descending: TenantSql,
}

/// A list's statement in both directions, made of its beginning up to the last condition, the column and the id. `$2` and
/// `$3` are where the page starts, `$4` is how many rows are wanted.
macro_rules! sorted {
    (($($select:tt)+), $column:literal, $id:literal) => {
        $crate::store::sort::Directions {
            ascending: $crate::store::statement::tenant_sql!(
                $($select)+, " AND ($2 IS NULL OR (", $column, ", ", $id, ") > ($2, $3)) ORDER BY ", $column, ", ", $id,
                " LIMIT $4"
            ),
            descending: $crate::store::statement::tenant_sql!(
                $($select)+, " AND ($2 IS NULL OR (", $column, ", ", $id, ") < ($2, $3)) ORDER BY ", $column, " DESC, ",
                $id, " DESC LIMIT $4"
            ),
        }
    };
}
pub(super) use sorted;

impl<'de, C: Column> Deserialize<'de> for Sort<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::all().find(|sort| sort.name() == name).ok_or_else(|| de::Error::custom("unknown sort"))
    }
}

impl<C: Column> Serialize for Sort<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<C: Column> Sort<C> {
    /// Its schema in the API: one of the names.
    #[must_use]
    pub fn schema() -> RefOr<Schema> {
        let names = Self::all().map(|sort| sort.name().into_owned());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(names))
            .default(Some(Self::default().name().into()))
            .build()
            .into()
    }
}

macro_rules! columns {
    ($(#[doc = $doc:literal] $name:ident { $first:ident = $first_word:literal $first_kind:ident
        $(, $column:ident = $word:literal $kind:ident)* $(,)? })+) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            #[default]
            $first,
            $($column),*
        }

        impl Column for $name {
            const ALL: &'static [(&'static str, Self)] =
                &[($first_word, Self::$first) $(, ($word, Self::$column))*];

            fn kind(self) -> Kind {
                match self {
                    Self::$first => Kind::$first_kind,
                    $(Self::$column => Kind::$kind),*
                }
            }
        }
    )+};
}

columns! {
    /// What people can be sorted by. Addresses without regard to case; who never logged in comes first.
    UserColumn { CreatedAt = "created_at" Time, Email = "email" Text, LastLoginAt = "last_login_at" Time }
    /// What workspaces can be sorted by.
    WorkspaceColumn { CreatedAt = "created_at" Time, Name = "name" Text }
    /// What API keys can be sorted by. A key that was never used comes first.
    ApiKeyColumn { CreatedAt = "created_at" Time, Name = "name" Text, LastUsedAt = "last_used_at" Time }
    /// What policies can be sorted by: `created_at` is the first version's time, `updated_at` that of the one in force.
    PolicyColumn { CreatedAt = "created_at" Id, Name = "name" Text, UpdatedAt = "updated_at" Time }
    /// What records of things that happened can be sorted by.
    EventColumn { OccurredAt = "occurred_at" Time }
    /// What reviews of requests can be sorted by.
    ReviewColumn { EscalatedAt = "escalated_at" Time, DueAt = "due_at" Time }
    /// What saved filters can be sorted by.
    SavedFilterColumn { CreatedAt = "created_at" Time, Name = "name" Text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(cursor: String) -> PageRequest {
        PageRequest { limit: 1, cursor: Some(cursor) }
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_its_row_under_its_own_order_only(
            micros in 0i64..END_OF_TIME.micros(), id: u128, text in "[^\0]{0,80}", descending: bool,
        ) {
            let (at, id) = (Value::Time(Timestamp::from_micros(micros)), Uuid::from_u128(id));
            for (by, value) in [(UserColumn::CreatedAt, at), (UserColumn::Email, Value::Text(text))] {
                let sort = Sort { by, descending };
                let cursor = sort.page(&request(String::new()), vec![(); 2], |()| (value.clone(), id)).next_cursor.unwrap();
                prop_assert_eq!(sort.start(&request(cursor.clone())).unwrap().last, Some((value, id)));
                for other in Sort::<UserColumn>::all().filter(|other| *other != sort) {
                    let refused = other.start(&request(cursor.clone())).unwrap_err();
                    prop_assert!(matches!(refused, StoreError::Missing("cursor of this sort")));
                }
            }
        }

        #[test]
        fn what_is_not_a_cursor_is_refused(text in "[ -~]{0,60}") {
            let refused = Sort::<UserColumn>::default().start(&request(text)).unwrap_err();
            prop_assert!(matches!(refused, StoreError::Missing("cursor")));
        }
    }

    #[test]
    fn a_cursor_with_a_value_that_no_row_has_is_refused() {
        let (time, text) = (Sort::<UserColumn>::default(), Sort { by: UserColumn::Email, descending: false });
        let forged = [
            (time, time.write(&Value::Text("not a time".to_owned()), Uuid::nil())),
            (time, time.write(&Value::Time(Timestamp::from_micros(i64::MAX)), Uuid::nil())),
            (time, time.write(&Value::Time(Timestamp::from_micros(-1)), Uuid::nil())),
            (text, text.write(&Value::Text("a\0b".to_owned()), Uuid::nil())),
        ];
        for (sort, cursor) in forged {
            assert!(matches!(sort.start(&request(cursor)), Err(StoreError::Missing("cursor"))));
        }
    }

    #[test]
    fn orders_are_read_and_written_by_name() {
        let read = |name: &str| serde_json::from_value::<Sort<UserColumn>>(serde_json::json!(name));
        assert_eq!(read("-created_at").unwrap(), Sort::default());
        assert_eq!(read("email").unwrap(), Sort { by: UserColumn::Email, descending: false });
        assert_eq!(serde_json::json!(read("-last_login_at").unwrap()), "-last_login_at");
        assert!(read("password_hash").is_err() && read("--email").is_err() && read("").is_err());
    }
}
