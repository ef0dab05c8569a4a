//! `kfl` and `hooks`: filters in a script's hands.

use std::sync::Arc;

use serde_json::Value;

use super::{Call, HelperError, HelperResult, Host, Member};
use crate::hooks::log::Level;
use crate::hooks::registered;
use crate::hooks::stats::Counters;
use crate::kfl::{Filter, KflError};

pub(super) const KFL: &[Member] = &[("match", "kfl.match", matches), ("validate", "kfl.validate", validate)];
pub(super) const HOOKS: &[Member] = &[("on", "hooks.on", |host, call| registered::on(host.registry(), call))];

fn matches<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let filter = compiled(host, &call.text(0, "query")?).map_err(|error| call.failed("query", error))?;
    call.returns(filter.matches_plain(&item(call)?))
}

/// What is asked: an item as a hook gets it, or a plain object of that shape.
fn item(call: &Call<'_>) -> Result<Value, HelperError> {
    call.object(1, "data")?;
    let (json, _) = call.text_or_json(1, "data")?;
    serde_json::from_str(&json).map_err(|error| call.failed("data", error))
}

fn validate<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let compiled = compiled(host, &call.text(0, "query")?);
    let quiet = call.given(1).and_then(rquickjs::Value::as_bool).unwrap_or(false);
    if let (Err(error), false) = (&compiled, quiet) {
        host.logger().about(Level::Warn, &format!("kfl.validate: {error}"));
    }
    call.returns(compiled.is_ok())
}

fn compiled(host: &Host, query: &str) -> Result<Arc<Filter>, KflError> {
    let mut filters = host.filters.borrow_mut();
    let before = filters.evicted();
    let filter = filters.compiled(query);
    Counters::add(&host.setup.counters.filters_evicted, filters.evicted() - before);
    filter
}
