//! What became of each transaction, by the items that `remora replay --json` printed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::ids::Ids;

/// Most wrong items that are described; all are counted.
const DESCRIBED: usize = 10;

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
    #[serde(borrow)]
    error: Option<ItemError<'a>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    target: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Response<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Headers<'a>,
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Deserialize)]
struct Headers<'a> {
    #[serde(borrow, rename = "X-Target")]
    target: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ItemError<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// What a whole transaction looks like, by number; 0: not known.
pub(super) type Looks = Vec<u64>;

/// What an item shows of one transaction.
#[derive(Clone, Copy, Default)]
struct Seen {
    whole: bool,
    /// A request and its response, with an error.
    damaged: bool,
    request: bool,
    response: bool,
}

/// Ports of clients with a stream in which bytes are missing.
#[derive(Debug, Default)]
pub struct Streams {
    with_gaps: HashSet<u16>,
    /// Gaps in all streams, with those at their ends.
    pub gaps: u64,
}

#[derive(Deserialize)]
struct Stream<'a> {
    client: &'a str,
    server: &'a str,
    syn: bool,
    c2s: Direction,
    s2c: Direction,
}

#[derive(Deserialize)]
struct Direction {
    gaps: Vec<serde::de::IgnoredAny>,
    /// Bytes known to be missing at the end, which are no gap between any.
    unseen: u64,
}

impl Streams {
    /// Reads the lines of `--streams`. A stream without its SYN misses what came before.
    ///
    /// # Errors
    /// When a line is something else.
    pub fn read(lines: &str) -> Result<Self> {
        let mut streams = Self::default();
        for line in lines.lines() {
            let stream: Stream<'_> = serde_json::from_str(line).context("a line of --streams")?;
            let gaps: u64 = [&stream.c2s, &stream.s2c]
                .iter()
                .map(|side| side.gaps.len() as u64 + u64::from(side.unseen > 0))
                .sum();
            streams.gaps += gaps;
            if gaps > 0 || !stream.syn {
                // Who is client may be guessed wrong where the SYN is missing.
                for end in [stream.client, stream.server] {
                    let port = end.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                    streams.with_gaps.extend(port);
                }
            }
        }
        Ok(streams)
    }
}

/// The account of one run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Transactions that there were.
    pub transactions: u64,
    /// Shown as they were: the request with its own response, whole, once, without an error.
    pub recovered: u64,
    /// Transactions of which a packet was removed. The others could all have been recovered.
    pub touched: u64,
    /// Not recovered although none of their own packets is missing.
    pub collateral: u64,
    /// A request and its own response, marked with an error.
    pub damaged: u64,
    /// Request and response both shown, but apart, each with an error.
    pub apart: u64,
    /// Only the request is shown, with an error.
    pub request_alone: u64,
    /// Only the response is shown, with an error.
    pub response_alone: u64,
    /// Nothing is shown, and the stream's account has a gap.
    pub in_gaps: u64,
    /// Nothing is shown, some of it was removed, and no stream says so: what would tell was removed as well.
    pub untold: u64,
    /// Nothing is shown, though nothing of it was removed and its stream has no gap. Must be 0.
    pub unaccounted: u64,
    /// Items that say what never was: must be 0. A response with another's request, one without an error that is not as it was, one
    /// of two items for one transaction, a lone message without an error.
    pub wrong: u64,
    /// The first wrong ones, in words.
    pub described: Vec<String>,
    /// Items by the type of their error.
    pub errors: BTreeMap<String, u64>,
    /// Gaps in streams.
    pub gaps: u64,
    /// Packets removed.
    pub removed: u64,
}

/// Reads items and keeps account.
pub(super) struct Judge<'a> {
    ids: &'a Ids,
    seen: Vec<Seen>,
    /// Of a run without loss: how each transaction looks. `None` in that run itself.
    looks: Option<&'a Looks>,
    pub(super) found: Looks,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    pub(super) fn new(ids: &'a Ids, looks: Option<&'a Looks>) -> Self {
        let found = if looks.is_none() { vec![0; ids.len()] } else { Vec::new() };
        Self { ids, seen: vec![Seen::default(); ids.len()], looks, found, verdict: Verdict::default() }
    }

    /// Takes a line of `--json`.
    pub(super) fn item(&mut self, line: &[u8]) -> Result<()> {
        let item: Item<'_> = serde_json::from_slice(line).context("a line of --json")?;
        if let Some(error) = &item.error {
            *self.verdict.errors.entry(error.kind.clone().into_owned()).or_default() += 1;
        }
        if let Err(wrong) = self.take(&item) {
            self.verdict.wrong += 1;
            if self.verdict.described.len() < DESCRIBED {
                self.verdict.described.push(format!("{}: {wrong}", item.id));
            }
        }
        Ok(())
    }

    fn take(&mut self, item: &Item<'_>) -> Result<(), String> {
        let request = match &item.request {
            Some(request) => {
                let number = self.ids.number(request.target.as_bytes());
                Some(number.ok_or_else(|| format!("nobody asked for {:?}", request.target))?)
            }
            None => None,
        };
        let response = item.response.as_ref().map(|r| self.answered(r, item.error.is_some()));
        let response = response.transpose()?.flatten();
        let failed = item.error.is_some();
        match (request, &item.response) {
            (None, None) => Err("neither request nor response".to_owned()),
            (Some(asked), Some(shown)) => {
                match response {
                    Some(answered) if answered != asked => {
                        return Err(format!("request {asked} is shown with the response to {answered}"));
                    }
                    None if !failed => {
                        return Err(format!("response to {asked} names nobody, without an error"));
                    }
                    _ => {}
                }
                let seen = &mut self.seen[asked as usize];
                if seen.whole || seen.damaged || seen.request || seen.response {
                    return Err(format!("{asked} is shown again"));
                }
                if failed {
                    seen.damaged = true;
                    return Ok(());
                }
                let look = look(shown);
                match self.looks {
                    Some(looks) if looks[asked as usize] != look => {
                        return Err(format!("{asked} is not as it was, without an error"));
                    }
                    Some(_) => {}
                    None => self.found[asked as usize] = look,
                }
                self.seen[asked as usize].whole = true;
                Ok(())
            }
            _ if !failed => Err(format!("{request:?} {response:?} alone, without an error")),
            (asked, _) => {
                let Some(number) = asked.or(response) else { return Ok(()) };
                let seen = &mut self.seen[number as usize];
                let flag = if asked.is_some() { &mut seen.request } else { &mut seen.response };
                if std::mem::replace(flag, true) || seen.whole || seen.damaged {
                    return Err(format!("{number} is shown again, in part"));
                }
                Ok(())
            }
        }
    }

    /// The one transaction that a response names. Beside an error the body may have a hole in the midst of the name: then the
    /// header, which is there as a whole or not at all, is believed alone.
    fn answered(&self, response: &Response<'_>, failed: bool) -> Result<Option<u32>, String> {
        let header = response.headers.target.as_deref().unwrap_or_default();
        let body = response.content.text.as_deref().filter(|_| !failed || header.is_empty());
        let body = body.unwrap_or_default();
        let mut named = None;
        for number in self.ids.named_in(header.as_bytes()).chain(self.ids.named_in(body.as_bytes())) {
            let number = number.ok_or("a response names what nobody asked for")?;
            if named.replace(number).is_some_and(|other| other != number) {
                return Err(format!("one response names {named:?} and another"));
            }
        }
        Ok(named)
    }

    /// The account. `touched` has a flag for each transaction.
    pub(super) fn finish(mut self, touched: &[bool], streams: &Streams) -> (Verdict, Looks) {
        let v = &mut self.verdict;
        v.transactions = self.seen.len() as u64;
        v.gaps = streams.gaps;
        for (number, (seen, &touched)) in (0..).zip(self.seen.iter().zip(touched)) {
            v.touched += u64::from(touched);
            v.collateral += u64::from(!touched && !seen.whole);
            let place = match seen {
                Seen { whole: true, .. } => &mut v.recovered,
                Seen { damaged: true, .. } => &mut v.damaged,
                Seen { request: true, response: true, .. } => &mut v.apart,
                Seen { request: true, .. } => &mut v.request_alone,
                Seen { response: true, .. } => &mut v.response_alone,
                _ if streams.with_gaps.contains(&self.ids.port(number)) => &mut v.in_gaps,
                _ if touched => &mut v.untold,
                _ => {
                    if v.described.len() < DESCRIBED {
                        let (target, port) = (self.ids.target(number), self.ids.port(number));
                        v.described.push(format!("{target} of port {port} is gone without a trace"));
                    }
                    &mut v.unaccounted
                }
            };
            *place += 1;
        }
        (self.verdict, self.found)
    }
}

fn look(response: &Response<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (response.status, &response.headers.target, &response.content.text).hash(&mut hasher);
    hasher.finish().max(1)
}

impl Verdict {
    /// Whether nothing wrong is shown and nothing is missing without account.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.wrong == 0 && self.unaccounted == 0
    }

    /// Adds another run's account.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.numbers_mut().into_iter().zip(other.clone().numbers_mut()) {
            *mine += *theirs;
        }
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        let room = DESCRIBED.saturating_sub(self.described.len());
        self.described.extend(other.described.iter().take(room).cloned());
    }

    fn numbers_mut(&mut self) -> [&mut u64; 14] {
        [
            &mut self.transactions,
            &mut self.recovered,
            &mut self.touched,
            &mut self.collateral,
            &mut self.damaged,
            &mut self.apart,
            &mut self.request_alone,
            &mut self.response_alone,
            &mut self.in_gaps,
            &mut self.untold,
            &mut self.unaccounted,
            &mut self.wrong,
            &mut self.gaps,
            &mut self.removed,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(request: Option<u32>, response: Option<&str>, error: Option<&str>) -> String {
        serde_json::json!({"id": "1-1", "index": 0,
            "request": request.map(|n| serde_json::json!({"method": "GET", "target": format!("/r/{n}")})),
            "response": response.map(|text| serde_json::json!({"status": 200, "headers": {"A": "b"},
                "content": {"size": 1, "text": text}})),
            "error": error.map(|kind| serde_json::json!({"type": kind, "msg": "why"}))})
        .to_string()
    }

    fn judged(items: &[String], touched: [bool; 4]) -> Verdict {
        let log = (0..4).map(|n| format!("1.1.1.1:{} /r/{n} 200", 10 + n)).collect::<Vec<_>>();
        let ids = Ids::from_access_log(log.iter().map(String::as_str)).unwrap();
        let mut first = Judge::new(&ids, None);
        for n in 0..4 {
            first.item(item(Some(n), Some(&format!("for /r/{n}")), None).as_bytes()).unwrap();
        }
        let (all, looks) = first.finish(&[false; 4], &Streams::default());
        assert_eq!((all.recovered, all.is_true()), (4, true));
        let mut judge = Judge::new(&ids, Some(&looks));
        items.iter().for_each(|i| judge.item(i.as_bytes()).unwrap());
        let streams = r#"{"client":"1.1.1.1:13","server":"2.2.2.2:80","syn":true,"c2s":{"gaps":[{"offset":1,"length":2}],"unseen":0},"s2c":{"gaps":[],"unseen":5}}"#;
        judge.finish(&touched, &Streams::read(streams).unwrap()).0
    }

    #[test]
    fn every_transaction_has_one_place_in_the_account() {
        let items = [
            item(Some(0), Some("for /r/0"), None),
            item(Some(1), Some("for /r/1"), Some("gap")),
            item(Some(2), None, Some("gap")),
            item(None, Some("for /r/2"), Some("pair-not-found")),
        ];
        let v = judged(&items, [false, true, false, true]);
        assert_eq!((v.recovered, v.damaged, v.apart, v.in_gaps, v.wrong), (1, 1, 1, 1, 0));
        assert_eq!((v.touched, v.collateral, v.gaps), (2, 1, 2));
        assert_eq!(v.errors.get("gap"), Some(&2));
        let v = judged(&items[..2], [false, true, true, true]);
        assert_eq!((v.untold, v.unaccounted, v.is_true()), (1, 0, true));
        let v = judged(&items[..2], [false, true, false, true]);
        assert_eq!((v.untold, v.unaccounted, v.is_true()), (0, 1, false));
    }

    #[test]
    fn what_never_was_is_wrong() {
        let right = item(Some(0), Some("for /r/0"), None);
        let wrong = [
            item(Some(0), Some("for /r/1"), None),
            item(Some(0), Some("for /r/1"), Some("gap")),
            item(Some(0), Some("for /r/0 and /r/1"), None),
            item(Some(0), Some("for /r/0, cut"), None),
            item(Some(0), Some("names nobody"), None),
            item(Some(7), Some("for /r/7"), None),
            item(Some(0), None, None),
            item(None, Some("for /r/0"), None),
            item(None, None, Some("gap")),
        ];
        for line in wrong {
            let verdict = judged(std::slice::from_ref(&line), [true; 4]);
            assert_eq!((verdict.wrong, verdict.is_true()), (1, false), "{line}");
        }
        let again = judged(&[right.clone(), right.clone()], [true; 4]);
        assert_eq!((again.wrong, again.recovered), (1, 1));
        assert_eq!(judged(&[right, item(Some(0), None, Some("gap"))], [true; 4]).wrong, 1);
    }

    #[test]
    fn a_name_with_a_hole_in_it_is_not_believed() {
        let cut = |header: &str, error: &str| {
            format!(
                r#"{{"id":"1-1","request":{{"target":"/r/0"}},"error":{error},"response":
                {{"status":200,"headers":{{"X-Target":"{header}"}},"content":{{"text":"you asked for /r/3"}}}}}}"#
            )
        };
        let verdict = judged(&[cut("/r/0", r#"{"type":"gap"}"#)], [true; 4]);
        assert_eq!((verdict.wrong, verdict.damaged), (0, 1));
        assert_eq!(judged(&[cut("/r/1", r#"{"type":"gap"}"#)], [true; 4]).wrong, 1);
        assert_eq!(judged(&[cut("/r/0", "null")], [true; 4]).wrong, 1);
    }
}
