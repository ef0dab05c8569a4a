//! How things stand: the agent, its scripts, its outbox.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Trusted;
use super::answer::{Failure, blocking, heavy, json_of};
use super::live::{limit, query};
use super::registry::Registry;
use super::services::Services;
use crate::outbox::{Letter, LetterState, Letters};

/// Letters of an answer: by default, and at most.
const USUAL: usize = 100;
const MOST: usize = 1000;

/// `?state=waiting|dead&limit=N&after=ID`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<LetterState>,
    limit: Option<usize>,
    after: Option<u64>,
}

pub(super) async fn status(
    State(registry): State<Arc<Registry>>,
    State(services): State<Arc<Services>>,
) -> Result<Response, Failure> {
    let (alive, ready) = blocking(move || (registry.alive(), registry.ready())).await?;
    let mut all = services.about.clone();
    all["alive"] = json!(alive);
    all["ready"] = json!(ready);
    Ok(json_of(StatusCode::OK, &all))
}

pub(super) async fn scripts(State(services): State<Arc<Services>>) -> Result<Response, Failure> {
    let listed = blocking(move || {
        let scripts = services.scripts.as_ref().map(|list| list()).unwrap_or_default();
        let failures = services.script_failures.as_ref().map(|list| list()).unwrap_or_default();
        json!({ "scripts": scripts, "failures": failures })
    });
    Ok(json_of(StatusCode::OK, &listed.await?))
}

pub(super) async fn outbox(
    State(services): State<Arc<Services>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let wanted = query(wanted)?;
    let limit = limit(wanted.limit, USUAL, MOST)?;
    let answered = heavy(move || {
        let (Some(counts), Some(folder)) = (&services.outbox, &services.outbox_folder) else {
            return Ok(json!({ "counters": null, "letters": [], "next": null }));
        };
        let (letters, more) = letters(folder, &wanted, limit)?;
        let next = letters.last().filter(|_| more).map(|letter| letter.id);
        Ok::<Value, anyhow::Error>(json!({ "counters": counts(), "letters": letters, "next": next }))
    });
    let answer = answered.await?.map_err(|error| unreadable(&error))?;
    Ok(json_of(StatusCode::OK, &answer))
}

/// Letters, oldest first, and whether there are more.
fn letters(folder: &FilePath, wanted: &Wanted, limit: usize) -> anyhow::Result<(Vec<Letter>, bool)> {
    let (mut found, mut more) = (Vec::new(), false);
    let listed = Letters::open(folder)?.list_after(wanted.after, &mut |letter| {
        if wanted.state.is_none_or(|state| state == letter.state) {
            more = found.len() == limit;
            anyhow::ensure!(!more, "enough");
            found.push(letter);
        }
        Ok(())
    });
    match listed {
        Err(error) if !more => Err(error),
        _ => Ok((found, more)),
    }
}

pub(super) async fn retry_letter(
    State(services): State<Arc<Services>>,
    Extension(trusted): Extension<Trusted>,
    Path(id): Path<u64>,
) -> Result<Response, Failure> {
    change(services, trusted, move |letters| letters.retry(Some(&[id]))).await
}

pub(super) async fn drop_letter(
    State(services): State<Arc<Services>>,
    Extension(trusted): Extension<Trusted>,
    Path(id): Path<u64>,
) -> Result<Response, Failure> {
    change(services, trusted, move |letters| letters.drop(Some(&[id]))).await
}

async fn change(
    services: Arc<Services>,
    trusted: Trusted,
    change: impl FnOnce(&mut Letters) -> anyhow::Result<usize> + Send + 'static,
) -> Result<Response, Failure> {
    if trusted != Trusted(true) {
        let why = "changes need a token: set api.token and send it, or use `remora outbox` on the node";
        return Err(Failure::new(StatusCode::FORBIDDEN, why));
    }
    let Some(folder) = services.outbox_folder.clone() else {
        return Err(Failure::missing("there is no outbox: nothing sends anything"));
    };
    let changed = heavy(move || change(&mut Letters::open(&folder)?)).await?;
    match changed {
        Ok(count) => Ok(json_of(StatusCode::OK, &json!({ "changed": count }))),
        Err(error) => Err(Failure::new(StatusCode::CONFLICT, format!("{error:#}"))),
    }
}

fn unreadable(error: &anyhow::Error) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the outbox cannot be read: {error:#}"))
}
