//! `prometheus`: values that a script publishes.

use crate::hooks::metrics::Kind;

use super::{Call, HelperResult, Host, Member};

pub(super) const MEMBERS: &[Member] = &[("metric", "prometheus.metric", metric)];

fn metric<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (name, help) = (call.text(0, "name")?, call.text(1, "help")?);
    let kind = match call.number(2, "type")? {
        1.0 => Kind::Counter,
        2.0 => Kind::Gauge,
        3.0 => Kind::Untyped,
        other => {
            return Err(
                call.failed("type", format!("{other} is none of 1 (counter), 2 (gauge), 3 (untyped)"))
            );
        }
    };
    let value = call.number(3, "value")?;
    let labels = call.pairs(4, "labels")?;
    host.setup
        .metrics
        .set(&host.setup.series, &name, &help, kind, value, labels)
        .map_err(|error| call.failed(error.argument, error.cause))?;
    call.done()
}
