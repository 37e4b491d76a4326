//! What whoever started vpcsim may look at and change, and no node: the record of calls, the state of the world, the packets
//! that were dropped, the faults, routes that others make. JSON under `/_vpcsim/`, on the loopback listener only.

use crate::world::World;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use vpcsim_ec2::Mistake;

/// The inspection endpoints.
pub fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/_vpcsim/record", get(record))
        .route("/_vpcsim/record/reset", post(reset))
        .route("/_vpcsim/state", get(state))
        .route("/_vpcsim/drops", get(drops))
        .route("/_vpcsim/routes", post(place_routes))
        .route("/_vpcsim/faults", get(faults).post(set_faults))
        .with_state(world)
}

async fn record(State(world): State<Arc<World>>) -> Response {
    Json(world.record()).into_response()
}

async fn reset(State(world): State<Arc<World>>) -> Response {
    Json(json!({ "forgotten": world.take_record().len() })).into_response()
}

async fn state(State(world): State<Arc<World>>) -> Response {
    Json(world.state()).into_response()
}

async fn faults(State(world): State<Arc<World>>) -> Response {
    Json(world.faults()).into_response()
}

/// YAML, of which JSON is a part, whatever the content type says.
async fn set_faults(State(world): State<Arc<World>>, text: String) -> Response {
    match world.set_faults(&text).await {
        Ok(()) => faults(State(world)).await,
        Err(mistakes) => refused(&mistakes),
    }
}

/// YAML, too.
async fn place_routes(State(world): State<Arc<World>>, text: String) -> Response {
    match world.place_routes(&text).await {
        Ok(()) => Json(world.state().route_tables).into_response(),
        Err(mistakes) => refused(&mistakes),
    }
}

fn refused(mistakes: &[Mistake]) -> Response {
    let mistakes: Vec<_> =
        mistakes.iter().map(|mistake| json!({ "path": mistake.path, "problem": mistake.problem })).collect();
    (StatusCode::BAD_REQUEST, Json(json!({ "mistakes": mistakes }))).into_response()
}

async fn drops(State(world): State<Arc<World>>) -> Response {
    match world.drops().await {
        Ok(drops) => Json(drops).into_response(),
        Err(error) => {
            let problem = crate::error::Chain(&error).to_string();
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "problem": problem }))).into_response()
        }
    }
}
