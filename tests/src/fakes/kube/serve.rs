//! A request on its way: who asks, for what, may they, does it fail by order of a test; then the answer.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::{self, Deed, User};
use super::resource::QUESTION;
use super::route::{self, Asked};
use super::select::Selection;
use super::status::{Refusal, answer};
use super::store::key_of;
use super::write::Write;
use super::{Request, Shared, discovery, list, lock, protobuf, watch};
use crate::slack::fault;

/// Now, as objects have it.
pub(super) fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub(super) async fn take(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut request = Request {
        verb: method.to_string(),
        resource: uri.path().to_owned(),
        namespace: None,
        name: None,
        query: uri.query().unwrap_or_default().to_owned(),
        user: String::new(),
        agent: text(&headers, "user-agent").to_owned(),
        status: 0,
    };
    let asked = match admitted(&shared, &method, &uri, &headers, &mut request) {
        Ok(asked) => asked,
        Err(response) => {
            request.status = response.status().as_u16();
            note(&shared, request);
            return *response;
        }
    };
    let injection = {
        let mut faults = lock(&shared.faults);
        let name = format!("{} {}", request.verb, request.resource);
        fault::next(&mut faults, &name, None).or_else(|| fault::next(&mut faults, "*", None))
    };
    let Some(injection) = injection else {
        let user = request.user.clone();
        // Counted before it is answered: a test that sees the answer sees the count.
        let call = note(&shared, request);
        let response =
            dispatch(&shared, &asked, &user, &headers, &body).unwrap_or_else(Refusal::into_response);
        if let Some(request) = lock(&shared.requests).get_mut(call) {
            request.status = response.status().as_u16();
        }
        return response;
    };
    let user = request.user.clone();
    note(&shared, request);
    fault::answer(injection, || {
        dispatch(&shared, &asked, &user, &headers, &body).unwrap_or_else(Refusal::into_response)
    })
    .await
}

/// Puts a request down; gives its place among those that are remembered.
fn note(shared: &Shared, request: Request) -> usize {
    let call = (request.verb.clone(), request.resource.clone());
    lock(&shared.counts).entry(call).or_default().requests += 1;
    let mut requests = lock(&shared.requests);
    if requests.len() >= shared.config.max_requests {
        return usize::MAX;
    }
    requests.push(request);
    requests.len() - 1
}

/// What is asked for, by somebody who may; or the answer, where that is all there is to it.
fn admitted(
    shared: &Shared,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    request: &mut Request,
) -> Result<Asked, Box<Response>> {
    let refused = |refusal: Refusal| Box::new(refusal.into_response());
    let user = user(shared, headers).map_err(refused)?;
    request.user.clone_from(&user.name);
    let store = shared.store();
    if matches!(uri.path(), "/healthz" | "/livez" | "/readyz") {
        return Err(Box::new("ok".into_response()));
    }
    if uri.path() == "/openapi/v2" {
        // No definitions at all: a message of Google's protobuf that has no fields.
        let media = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
        return Err(Box::new(([(header::CONTENT_TYPE, media)], "").into_response()));
    }
    if *method == Method::GET {
        let aggregated = text(headers, "accept").contains("as=APIGroupDiscoveryList");
        if let Some(found) = discovery::answer(uri.path(), aggregated, &store.resources) {
            let mut response = answer(200, &found);
            if aggregated && matches!(uri.path(), "/api" | "/apis") {
                let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
            }
            return Err(Box::new(response));
        }
    }
    let mut asked = route::read(&store, method, uri).map_err(refused)?;
    asked.metadata_only = text(headers, "accept").contains("as=PartialObjectMetadata");
    request.verb = asked.verb.to_owned();
    request.resource = asked.what();
    request.namespace.clone_from(&asked.namespace);
    request.name.clone_from(&asked.name);
    if shared.config.rbac && asked.resource.plural != QUESTION {
        let mut deed = Deed::of(&asked);
        if deed.name.is_none() && matches!(asked.verb, "list" | "watch") {
            let selection = selection(&asked).map_err(refused)?;
            deed.name = selection.name().map(str::to_owned);
        }
        auth::allow(&store, &user, &deed).map_err(refused)?;
    }
    Ok(asked)
}

fn user(shared: &Shared, headers: &HeaderMap) -> Result<User, Refusal> {
    if !shared.config.rbac {
        return Ok(User::admin());
    }
    let authorization = text(headers, "authorization");
    if authorization.is_empty() {
        return Ok(User::anonymous());
    }
    let token = authorization.strip_prefix("Bearer ").ok_or_else(Refusal::unauthorized)?;
    let user = lock(&shared.tokens).get(token).cloned().ok_or_else(Refusal::unauthorized)?;
    match text(headers, "impersonate-user") {
        "" => Ok(user),
        other if user.is_admin() => Ok(User::named(other)),
        other => Err(Refusal::forbidden(format!(
            "users {other:?} is forbidden: User {:?} cannot impersonate",
            user.name
        ))),
    }
}

fn selection(asked: &Asked) -> Result<Selection, Refusal> {
    let (labels, fields) = (asked.query("labelSelector"), asked.query("fieldSelector"));
    let mut selection = Selection::new(&asked.resource, asked.namespace.as_deref(), labels, fields)?;
    if let Some(name) = &asked.name {
        selection.only(name);
    }
    Ok(selection)
}

fn dispatch(
    shared: &Arc<Shared>,
    asked: &Asked,
    user: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let call = (asked.verb.to_owned(), asked.what());
    let written = |code: u16, text: String| {
        shared.count_bytes(&call, text.len());
        let code = StatusCode::from_u16(code).unwrap_or_default();
        (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
    };
    match (asked.verb, asked.subresource.as_deref()) {
        ("watch", _) => watch::answer(shared, asked, selection(asked)?),
        ("list", _) => {
            list::answer(&mut shared.store(), asked, &selection(asked)?).map(|text| written(200, text))
        }
        ("get", Some("log")) => {
            let key = asked.key();
            let log = lock(&shared.logs).get(&key).cloned();
            log.map(IntoResponse::into_response).ok_or_else(|| Refusal::not_found(&asked.resource, &key.1))
        }
        ("get", None | Some("status")) => {
            let (store, key) = (shared.store(), asked.key());
            let object = store.get(&asked.resource, &key);
            let object = object.ok_or_else(|| Refusal::not_found(&asked.resource, &key.1))?;
            Ok(written(200, if asked.metadata_only { object.metadata() } else { object.text() }))
        }
        ("create", Some("token")) => {
            let (namespace, account) = asked.key();
            let token = format!("token-of-{namespace}-{account}");
            let user = User::named(&format!("system:serviceaccount:{namespace}:{account}"));
            lock(&shared.tokens).insert(token.clone(), user);
            let answer = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {}, "status": {"token": token, "expirationTimestamp": "2100-01-01T00:00:00Z"}});
            Ok(written(201, answer.to_string()))
        }
        ("deletecollection", None) => Ok(written(200, delete_all(shared, asked)?)),
        (_, None | Some("status")) => {
            let (code, value) = write(shared, asked, user, headers, body)?;
            Ok(written(code, value.to_string()))
        }
        _ => Err(Refusal::no_such_page()),
    }
}

fn delete_all(shared: &Shared, asked: &Asked) -> Result<String, Refusal> {
    let (mut store, selection) = (shared.store(), selection(asked)?);
    let text = list::answer(&mut store, asked, &selection)?;
    for object in store.all(&asked.resource, asked.namespace.as_deref()) {
        if selection.takes(&object.value) {
            let mut write = Write { store: &mut store, asked, manager: String::new(), media: "", now: now() };
            write.delete(&key_of(&object.value), &Value::Null)?;
        }
    }
    Ok(text)
}

fn write(
    shared: &Shared,
    asked: &Asked,
    user: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(u16, Value), Refusal> {
    let media = text(headers, "content-type").split(';').next().unwrap_or_default().trim();
    let read = |bytes: &[u8]| match media {
        _ if bytes.is_empty() => Ok(Value::Null),
        "application/yaml" | "application/apply-patch+yaml" => {
            serde_norway::from_slice(bytes).map_err(|error| Refusal::bad(error.to_string()))
        }
        ""
        | "application/json"
        | "application/json-patch+json"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json" => {
            serde_json::from_slice(bytes).map_err(|error| Refusal::bad(error.to_string()))
        }
        "application/vnd.kubernetes.protobuf" => {
            protobuf::read(bytes).ok_or_else(|| Refusal::media_type(media))
        }
        other => Err(Refusal::media_type(other)),
    };
    let body = read(body)?;
    let mut store = shared.store();
    if asked.resource.plural == QUESTION {
        let user = if user == User::admin().name { User::admin() } else { User::named(user) };
        return Ok((201, auth::review(&store, &user, &body)));
    }
    let program = text(headers, "user-agent").split('/').next().unwrap_or_default();
    let manager = asked.query("fieldManager").unwrap_or(program).to_owned();
    Write { store: &mut store, asked, manager, media, now: now() }.run(body)
}
