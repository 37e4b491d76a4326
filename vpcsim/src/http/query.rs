//! EC2's Query protocol: a form by POST (or in the query of a GET) to `/`, XML back. The caller is the access key id of
//! the `Authorization` header; signatures are not checked, and no body above 256 KiB is read.

use super::{hang_up, text_of};
use crate::world::World;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use vpcsim_ec2::{Caller, Delivery};

/// Far above what any call needs: 1,000 filter values of 64 bytes take 80 KiB.
pub(crate) const MAX_BODY_BYTES: usize = 256 << 10;

/// The API alone.
pub fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/", get(by_query).post(by_form))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(world)
}

async fn by_form(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&world, &headers, &body).await
}

async fn by_query(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    answer(&world, &headers, query.unwrap_or_default().as_bytes()).await
}

async fn answer(world: &World, headers: &HeaderMap, form: &[u8]) -> Response {
    let caller = Caller::of_header(text_of(headers, header::AUTHORIZATION.as_str()));
    let answer = world.call(&caller, form).await;
    if answer.delivery == Delivery::Drop {
        hang_up();
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let head =
        [("content-type", "text/xml;charset=UTF-8".to_owned()), ("x-amzn-requestid", answer.request_id)];
    (status, head, answer.body).into_response()
}
