//! The instance metadata service of one node, version 2. Which node asks is known from the socket: each node's namespace
//! has a listener of its own.

use super::{hang_up, text_of};
use crate::world::World;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use vpcsim_ec2::{Delivery, ImdsRequest};

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

#[derive(Clone)]
struct Service {
    world: Arc<World>,
    node: Arc<str>,
}

/// The service of `node`.
pub fn router(world: Arc<World>, node: &str) -> Router {
    Router::new().fallback(answer).with_state(Service { world, node: node.into() })
}

async fn answer(State(service): State<Service>, request: Request) -> Response {
    // The body is never read: no request of this service has one.
    let headers = request.headers();
    let asked = ImdsRequest {
        method: request.method().as_str(),
        path: request.uri().path(),
        token: text_of(headers, "x-aws-ec2-metadata-token"),
        ttl: text_of(headers, TTL_HEADER),
        forwarded: headers.contains_key("x-forwarded-for"),
    };
    let reply = service.world.metadata(&service.node, &asked).await;
    if reply.delivery == Delivery::Drop {
        hang_up();
    }
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let ttl = reply.ttl.map(|seconds| [(TTL_HEADER, seconds.to_string())]);
    (status, [("content-type", "text/plain"), ("server", "EC2ws")], ttl, reply.body).into_response()
}
