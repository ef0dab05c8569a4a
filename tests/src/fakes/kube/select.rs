//! Label and field selectors.

use serde_json::Value;

use super::resource::Resource;
use super::status::Refusal;

/// What a list or a watch asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) namespace: Option<String>,
    labels: Vec<Label>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Label {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Fields that can be asked for, besides `metadata.name` and `metadata.namespace`: Kubernetes has a short list for each kind.
fn selectable(plural: &str) -> &'static [&'static str] {
    match plural {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "services" => &["spec.clusterIP", "spec.type"],
        "secrets" => &["type"],
        "namespaces" => &["status.phase"],
        "nodes" => &["spec.unschedulable"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "type",
        ],
        "jobs" => &["status.successful"],
        _ => &[],
    }
}

impl Selection {
    pub(super) fn new(
        resource: &Resource,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Refusal> {
        let fields = terms(fields.unwrap_or_default())
            .into_iter()
            .map(|term| field(resource, term))
            .collect::<Result<_, _>>()?;
        let labels = terms(labels.unwrap_or_default()).into_iter().map(label).collect::<Result<_, _>>()?;
        Ok(Self { namespace: namespace.map(str::to_owned), labels, fields })
    }

    /// Of one name alone.
    pub(super) fn only(&mut self, name: &str) {
        self.fields.push(("metadata.name".to_owned(), true, name.to_owned()));
    }

    /// The one name that can match, if the fields say so.
    pub(super) fn name(&self) -> Option<&str> {
        let named = self.fields.iter().find(|(field, equal, _)| *equal && field == "metadata.name");
        named.map(|(_, _, value)| value.as_str())
    }

    pub(super) fn takes(&self, object: &Value) -> bool {
        let text = |path: &str| {
            let found = path.split('.').fold(object, |at, name| &at[name]);
            match found {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            }
        };
        let namespace =
            self.namespace.as_deref().is_none_or(|wanted| object["metadata"]["namespace"] == wanted);
        namespace
            && self.fields.iter().all(|(field, equal, value)| (text(field) == *value) == *equal)
            && self.labels.iter().all(|label| label.takes(&object["metadata"]["labels"]))
    }
}

impl Label {
    fn takes(&self, labels: &Value) -> bool {
        let value = |key: &String| labels[key].as_str();
        let among =
            |key, values: &[String]| value(key).is_some_and(|value| values.iter().any(|v| v == value));
        match self {
            Self::In(key, values) => among(key, values),
            Self::NotIn(key, values) => !among(key, values),
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
        }
    }
}

/// Parts between commas that are not in parentheses.
fn terms(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = text.split(move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    split.map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn field(resource: &Resource, term: &str) -> Result<(String, bool, String), Refusal> {
    let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
        (field, false, value)
    } else if let Some((field, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (field, true, value)
    } else {
        let why = format!("invalid selector: {term:?}; can't understand {term:?}");
        return Err(Refusal::bad(why));
    };
    let known = ["metadata.name", "metadata.namespace"];
    if !known.contains(&field) && !selectable(&resource.plural).contains(&field) {
        return Err(Refusal::bad(format!("field label not supported: {field}")));
    }
    Ok((field.to_owned(), equal, value.to_owned()))
}

fn label(term: &str) -> Result<Label, Refusal> {
    let owned = |text: &str| text.trim().to_owned();
    let set = |text: &str| {
        let inner = text.trim().strip_prefix('(').and_then(|text| text.strip_suffix(')'));
        inner.map(|inner| inner.split(',').map(owned).collect::<Vec<_>>())
    };
    let cannot = || Refusal::bad(format!("unable to parse requirement: {term:?}"));
    let made = if let Some((key, values)) = term.split_once(" notin ") {
        Label::NotIn(owned(key), set(values).ok_or_else(cannot)?)
    } else if let Some((key, values)) = term.split_once(" in ") {
        Label::In(owned(key), set(values).ok_or_else(cannot)?)
    } else if let Some((key, value)) = term.split_once("!=") {
        Label::NotIn(owned(key), vec![owned(value)])
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        Label::In(owned(key), vec![owned(value)])
    } else if let Some(key) = term.strip_prefix('!') {
        Label::Absent(owned(key))
    } else {
        Label::Exists(owned(term))
    };
    let (Label::In(key, _) | Label::NotIn(key, _) | Label::Exists(key) | Label::Absent(key)) = &made;
    let good = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if key.is_empty() || !key.chars().all(good) { Err(cannot()) } else { Ok(made) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(labels: &str, fields: &str) -> Result<bool, u16> {
        let pods = Resource::usual().into_iter().find(|resource| resource.plural == "pods").unwrap();
        let pod = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "shop", "tier": "web"}}, "spec": {"nodeName": "n1"}});
        let selection = Selection::new(&pods, Some("n"), Some(labels), Some(fields));
        selection.map(|selection| selection.takes(&pod)).map_err(|refusal| refusal.code)
    }

    #[test]
    fn selectors_are_kubernetes_own() {
        for labels in [
            "",
            "app=shop",
            "app==shop,tier",
            "app in (x, shop),!gone",
            "tier!=db,gone notin (a,b)",
            "gone!=x",
        ] {
            assert_eq!(takes(labels, ""), Ok(true), "{labels}");
        }
        for labels in ["app=other", "gone", "!app", "app notin (shop)", "app in (a,b)"] {
            assert_eq!(takes(labels, ""), Ok(false), "{labels}");
        }
        for (fields, expected) in [
            ("spec.nodeName=n1,metadata.name==a", Ok(true)),
            ("spec.nodeName=", Ok(false)),
            ("status.podIP=", Ok(true)),
            ("spec.nodeName!=n1", Ok(false)),
            ("spec.image=x", Err(400)),
            ("spec.nodeName", Err(400)),
        ] {
            assert_eq!(takes("", fields), expected, "{fields}");
        }
        assert_eq!(takes("app in shop", ""), Err(400));
        assert_eq!(takes("=x", ""), Err(400));
    }
}
