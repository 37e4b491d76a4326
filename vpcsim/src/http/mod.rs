//! The HTTP sides of a world: EC2's Query API ([`query`]), the nodes' metadata service ([`metadata`]) and what only whoever
//! started vpcsim may see ([`inspect`]). Here is translation only; answers come from the model.

pub mod inspect;
pub mod metadata;
pub mod query;

use axum::http::HeaderMap;

/// Ends the connection that a request came in on, without a byte of an answer.
///
/// A handler can only answer: what ends its connection is that the connection's task ends. Unwinding does that, and without
/// a panic's message, because no hook runs. Nothing is locked here.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("the answer is lost"))
}

/// The text of a header, if it is there and is text.
fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
