//! A container's variables.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Pod;
use super::spec::{EnvVar, KeyRef, PodSpec, ValueFrom, bytes};
use crate::cluster::Objects;

/// What a runtime gives where neither image nor pod does.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `NAME=value` for each.
///
/// # Errors
/// When a value is from something that is not there, or not understood.
pub(super) fn resolve(
    pod: &Pod,
    spec: &PodSpec,
    objects: &dyn Objects,
    api: Option<(String, u16)>,
) -> Result<Vec<String>> {
    let mut all = vec![PATH.to_owned(), format!("HOSTNAME={}", pod.name)];
    if let Some((host, port)) = api {
        all.push(format!("KUBERNETES_SERVICE_HOST={host}"));
        all.push(format!("KUBERNETES_SERVICE_PORT={port}"));
        all.push(format!("KUBERNETES_SERVICE_PORT_HTTPS={port}"));
    }
    for variable in &spec.container().env {
        let value = value(variable, pod, spec, objects);
        if let Some(value) = value.with_context(|| format!("env {}", variable.name))? {
            all.push(format!("{}={value}", variable.name));
        }
    }
    Ok(all)
}

fn value(variable: &EnvVar, pod: &Pod, spec: &PodSpec, objects: &dyn Objects) -> Result<Option<String>> {
    let Some(from) = &variable.value_from else {
        ensure!(!variable.value.contains("$("), "references to other variables are not understood");
        return Ok(Some(variable.value.clone()));
    };
    Ok(Some(match from {
        ValueFrom::FieldRef(field) => match &*field.field_path {
            "metadata.name" => pod.name.clone(),
            "metadata.namespace" => pod.namespace.clone(),
            "metadata.uid" => pod.uid.clone(),
            "spec.nodeName" => pod.node.clone(),
            "spec.serviceAccountName" => spec.service_account_name.clone(),
            "status.hostIP" => pod.host_ip.to_string(),
            "status.podIP" => pod.ip.to_string(),
            other => bail!("fieldRef {other} is not understood"),
        },
        ValueFrom::ResourceFieldRef(field) => {
            ensure!(
                field.resource == "limits.memory",
                "resourceFieldRef {} is not understood",
                field.resource
            );
            match spec.container().resources.limits.get("memory") {
                Some(limit) => bytes(limit)?,
                // Without a limit: what the node can give.
                None => bytes("8Gi")?,
            }
            .to_string()
        }
        ValueFrom::SecretKeyRef(key) => return of_object("Secret", key, pod, objects),
        ValueFrom::ConfigMapKeyRef(key) => return of_object("ConfigMap", key, pod, objects),
    }))
}

fn of_object(kind: &str, key: &KeyRef, pod: &Pod, objects: &dyn Objects) -> Result<Option<String>> {
    let object = objects.find(kind, &pod.namespace, &key.name);
    let value = object.as_ref().and_then(|object| object["data"][&key.key].as_str());
    let Some(value) = value else {
        ensure!(key.optional, "{kind} {} has no key {}", key.name, key.key);
        return Ok(None);
    };
    if kind == "Secret" {
        return Ok(Some(String::from_utf8(STANDARD.decode(value)?)?));
    }
    Ok(Some(value.to_owned()))
}
