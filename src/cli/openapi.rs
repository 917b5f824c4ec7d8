use super::{Outcome, output};

/// Prints the OpenAPI document of the admin face.
pub(super) fn run() -> anyhow::Result<Outcome> {
    output::line(crate::admin::openapi_json().trim_end())?;
    Ok(Outcome::Done)
}
