//! The HTTP sides of a world: EC2's Query API ([`query`]), the nodes' metadata service ([`metadata`]) and what only whoever
//! started vpcsim may see ([`inspect`]). Here is translation only; answers come from the model.

pub mod inspect;
pub mod metadata;
pub mod query;

use axum::http::HeaderMap;

/// The text of a header, if it is there and is text.
fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
