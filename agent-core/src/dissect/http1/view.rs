//! Temporary.
#![allow(missing_docs, clippy::all)]
use crate::item::Request;
pub struct Target<'a> {
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
}
pub fn split_target(t: &[u8]) -> Target<'_> {
    match t.iter().position(|&b| b == b'?') {
        Some(i) => Target { path: &t[..i], query: Some(&t[i + 1..]) },
        None => Target { path: t, query: None },
    }
}
pub fn path_segments(p: &[u8]) -> impl Iterator<Item = &[u8]> {
    p.split(|&b| b == b'/').filter(|s| !s.is_empty())
}
pub fn url(r: &Request, _tls: bool, _to: (std::net::IpAddr, u16)) -> Vec<u8> {
    let mut v = b"http://".to_vec();
    v.extend(r.message.head.get("host").unwrap_or_default());
    v.extend(r.target());
    v
}
pub fn cookies(v: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    v.split(|&b| b == b';').filter_map(set_cookie).collect()
}
pub fn set_cookie(v: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let v = v.split(|&b| b == b';').next()?;
    let i = v.iter().position(|&b| b == b'=')?;
    Some((v[..i].trim_ascii().to_vec(), v[i + 1..].trim_ascii().to_vec()))
}
pub fn query_pairs(q: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    q.split(|&b| b == b'&').filter_map(set_cookie)
}
pub struct Param {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    pub file_name: Option<Vec<u8>>,
    pub content_type: Option<Vec<u8>>,
}
pub fn form_params(_m: &[u8], _b: &[u8]) -> Vec<Param> {
    Vec::new()
}
pub enum Text<'a> {
    Text(String),
    Binary(&'a [u8]),
}
pub fn text<'a>(_m: &[u8], b: &'a [u8]) -> Text<'a> {
    match std::str::from_utf8(b) {
        Ok(s) => Text::Text(s.to_owned()),
        Err(_) => Text::Binary(b),
    }
}
