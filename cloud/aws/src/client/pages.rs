//! Reads that EC2 answers in pages, followed to their end. A service that sends the same page again, or pages without end, fails
//! the read: nobody else would stop it, and all that was read is kept in memory.

use crate::error::failed;
use crate::parse::Answer;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use spur_cloud::{Api, CloudError};
use std::error::Error;
use std::future::Future;

/// A million things in pages of a thousand: more than an account has of anything that is read here.
const MOST_PAGES: usize = 1_000;

/// Asks page by page. `take` reads one and gives the token of the next.
pub(super) async fn follow<P, E, F>(
    api: Api,
    ask: impl Fn(Option<String>) -> F,
    mut take: impl FnMut(P) -> Result<Option<String>, CloudError>,
) -> Result<(), CloudError>
where
    F: Future<Output = Result<P, SdkError<E, HttpResponse>>>,
    E: Error + ProvideErrorMetadata + 'static,
{
    let mut token = None;
    for _ in 0..MOST_PAGES {
        let page = ask(token.clone()).await.map_err(|error| failed(api, error))?;
        // Some answers say "no more" with an empty text.
        match take(page)?.filter(|next| !next.is_empty()) {
            None => return Ok(()),
            next if next == token => return Err(Answer::of(api).bug("nextToken", "is the one that was sent")),
            next => token = next,
        }
    }
    Err(Answer::of(api).bug("nextToken", format_args!("leads on after {MOST_PAGES} pages")))
}
