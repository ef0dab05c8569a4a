//! `vendor.elastic`, `vendor.splunk`, `vendor.influxdb`: data for stores of data, through the outbox.

use crate::outbox::{
    Delivery, ElasticAccess, ElasticDocument, ElasticTarget, InfluxPoint, InfluxTarget, SplunkEvent,
    SplunkTarget,
};
use crate::secret::Secret;

use super::vendor::queue;
use super::{Call, HelperError, HelperResult, Host};

/// Returns the document's id.
pub(super) fn elastic<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let text = |index, name| Ok::<_, HelperError>(call.optional_text(index, name)?.unwrap_or_default());
    let secret =
        |index, name| Ok::<_, HelperError>(call.optional_text(index, name)?.map(|text| Secret::new(&text)));
    // With a cloud id there is no URL; `null` stands for it.
    let cloud_id = text(5, "cloudID")?;
    let url = if cloud_id.trim().is_empty() { call.text(0, "url")? } else { text(0, "url")? };
    let index = call.text(1, "index")?;
    let (data, _) = call.text_or_json(2, "data")?;
    let access = ElasticAccess {
        url,
        cloud_id,
        username: text(3, "username")?,
        password: secret(4, "password")?,
        api_key: secret(6, "apiKey")?,
        service_token: secret(7, "serviceToken")?,
        fingerprint: text(8, "certificateFingerprint")?,
    };
    let target = ElasticTarget::new(&access).map_err(|error| call.failed_call(error))?;
    let document = ElasticDocument::new(&index, &data).map_err(|error| call.failed_call(error))?;
    let id = document.id().to_owned();
    queue(host, call, Delivery::Elastic { target, document })?;
    call.returns(id)
}

/// Returns the delivery's id.
pub(super) fn splunk<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (url, token) = (call.text(0, "url")?, Secret::new(&call.text(1, "token")?));
    let (event, is_json) = call.text_or_json(2, "event")?;
    let options = call.pairs(3, "options")?;
    let mut metadata = vec![
        ("host".to_owned(), host.services().node_name.clone()),
        ("source".to_owned(), "remora".to_owned()),
    ];
    let (mut raw, mut channel) = (false, None);
    for (name, value) in options {
        match name.as_str() {
            "index" | "sourcetype" | "source" | "host" => {
                metadata.retain(|(known, _)| *known != name);
                metadata.push((name, value));
            }
            "raw" => raw = truth(call, &value)?,
            "channel" => channel = Some(value).filter(|value| !value.is_empty()),
            _ => {
                let known = "index, sourcetype, source, host, raw and channel are";
                return Err(call.failed("options", format!("there is no option {name:?}; {known}")));
            }
        }
    }
    let target = SplunkTarget::new(&url, token, channel).map_err(|error| call.failed_call(error))?;
    let event =
        if raw { SplunkEvent::raw(event, metadata) } else { SplunkEvent::event(&event, is_json, metadata) };
    let event = event.map_err(|error| call.failed_call(error))?;
    let id = queue(host, call, Delivery::Splunk { target, event })?;
    call.returns(id.0.to_string())
}

fn truth(call: &Call<'_>, value: &str) -> Result<bool, HelperError> {
    match value {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(call.failed("options.raw", format!("{value:?} is neither true nor false"))),
    }
}

/// Returns the delivery's id.
pub(super) fn influxdb<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (url, token) = (call.text(0, "url")?, Secret::new(&call.text(1, "token")?));
    let (organization, bucket) = (call.text(2, "organization")?, call.text(3, "bucket")?);
    let measurement = call.text(4, "measurement")?;
    let (data, _) = call.text_or_json(5, "data")?;
    let tags = call.pairs(6, "tags")?;
    let target = InfluxTarget::new(&url, token, &organization, &bucket);
    let target = target.map_err(|error| call.failed_call(error))?;
    let point = InfluxPoint::new(&measurement, &data, &tags).map_err(|error| call.failed_call(error))?;
    let id = queue(host, call, Delivery::Influx { target, point })?;
    call.returns(id.0.to_string())
}
