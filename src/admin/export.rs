//! Exports: a whole list as one download, read from the store page by page, so that neither memory nor a transaction is
//! held for as long as the client reads.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, try_unfold};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::Problem;
use crate::store::{Page, PageRequest};

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// With a header line; nested values are JSON. Cells that a spreadsheet would run start with `'`.
    Csv,
}

/// How the rows are to be written.
#[derive(Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    #[param(inline)]
    pub format: Option<Format>,
}

/// Rows of one page.
pub const PAGE: u32 = 200;

/// Streams every page that `read` gives, rows made by `view`. The first page is read before the answer begins: what is
/// wrong with the request, or the database, is still an error's answer. When a later page cannot be read the download
/// breaks off, so that it cannot be taken for a whole one.
///
/// # Errors
/// Those of `read`.
pub async fn stream<R, T, F, Fut>(
    name: &str,
    format: Format,
    columns: &'static [&'static str],
    read: F,
    view: fn(R) -> T,
) -> Result<Response, Problem>
where
    R: Send + 'static,
    T: Serialize + 'static,
    F: Fn(PageRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Page<R>, Problem>> + Send + 'static,
{
    let first = read(PageRequest { limit: PAGE, cursor: None }).await?;
    let head = if format == Format::Csv { csv_line(columns.iter().copied()) } else { String::new() };
    let pages = try_unfold((Some(first), None, head, read), move |(page, cursor, mut text, read)| async move {
        let page = match (page, cursor) {
            (Some(page), _) => page,
            (None, None) => return Ok(None),
            (None, cursor) => read(PageRequest { limit: PAGE, cursor }).await.map_err(|problem| {
                tracing::warn!(code = problem.code().as_str(), "an export broke off");
                std::io::Error::other("the rest could not be read")
            })?,
        };
        for row in page.data {
            let row = serde_json::to_value(view(row)).map_err(std::io::Error::other)?;
            match format {
                Format::Jsonl => text.push_str(&format!("{row}\n")),
                Format::Csv => text.push_str(&csv_line(columns.iter().map(|column| cell(row.get(column))))),
            }
        }
        Ok::<_, std::io::Error>(Some((Bytes::from(text), (None, page.next_cursor, String::new(), read))))
    });
    Ok(download(name, format, pages))
}

/// The answer that is saved as a file.
pub fn download(
    name: &str,
    format: Format,
    pages: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response {
    let (kind, ending) = match format {
        Format::Jsonl => ("application/jsonl", "jsonl"),
        Format::Csv => ("text/csv; charset=utf-8; header=present", "csv"),
    };
    let mut response = Body::from_stream(pages).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(file) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.{ending}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, file);
    }
    response
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        // A spreadsheet runs what starts so (CWE-1236).
        Some(Value::String(text)) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// One line of RFC 4180.
fn csv_line(cells: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut line = String::new();
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            line.push(',');
        }
        let cell = cell.as_ref();
        if cell.contains(['"', ',', '\r', '\n']) {
            line.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
        } else {
            line.push_str(cell);
        }
    }
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_quoted_where_needed_and_never_run() {
        let cells = [json!("a"), json!("b,\"c\""), json!("=1+1"), json!(null), json!({"x": 1}), json!(7)];
        let line = csv_line(cells.iter().map(|value| cell(Some(value))));
        assert_eq!(line, "a,\"b,\"\"c\"\"\",'=1+1,,\"{\"\"x\"\":1}\",7\r\n");
    }
}
