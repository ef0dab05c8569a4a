//! Conversations in a line, for what is paired behind which losses.

use super::*;

/// Plays what a capture holds of a conversation: all requests are as long as each other, and all responses.
///
/// `>a@1`: request `/a`, which acknowledges one response; `<a@1`: its answer, which acknowledges one request; `?` for `1`: no
/// acknowledgement. `>ab@1`: both in one segment; `>-`: a request is lost; `|`: what was emitted by then. How it ends: `.` with
/// FIN, `!` with the capture, `~` given up.
///
/// Returns what is emitted: `aa` a pair, `a-` a request alone, `-a` a response; `aa!` a pair of which something is missing.
pub(super) fn play(mut talk: Talk, script: &str) -> String {
    let size = [get("/a").len() as u64, ok("a").len() as u64];
    let base = talk.sent;
    let mut told = Vec::new();
    for step in script.split_whitespace() {
        let (what, acked) = step.split_once('@').unwrap_or((step, "?"));
        let side = if what.starts_with('>') { Client } else { Server };
        let said = |name: char| match side {
            Client => get(&format!("/{name}")),
            Server => ok(&name.to_string()),
        };
        match what {
            "." | "!" | "~" | "|" => {
                let end = [(".", End::Fin), ("!", End::CaptureEnd), ("~", End::Evicted)];
                let end = end.iter().find(|(mark, _)| *mark == what);
                told.extend(talk.out.drain(..).map(|draft| letters(&draft)));
                told.extend(
                    end.into_iter().flat_map(|&(_, end)| talk.finish(end)).map(|draft| letters(&draft)),
                );
                if what == "|" {
                    told.push("|".to_owned());
                }
            }
            ">-" | "<-" => {
                talk.gap(side, size[side as usize]);
            }
            _ => {
                let peer = side.peer() as usize;
                let acked = acked.parse::<u64>().ok().map(|n| base[peer] + n * size[peer]);
                let bytes: String = what[1..].chars().map(said).collect();
                talk.chunk(side, Chunk::Data(bytes.as_bytes()), acked);
            }
        }
    }
    told.join(" ")
}

/// Plays each script on a stream of its own.
pub(super) fn check(talk: fn() -> Talk, scripts: &[(&str, &str)]) {
    for (script, told) in scripts {
        assert_eq!(play(talk(), script), *told, "{script}");
    }
}

/// The names of the request and of its response.
fn letters(draft: &Draft) -> String {
    let request = exchange(draft).request.as_ref().map_or(&b"/-"[..], |r| r.target());
    let response = exchange(draft).response.as_ref().map_or(&b"-"[..], |_| response_body(draft));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pair = request != b"/-" && response != b"-";
    text(&request[1..]) + &text(response) + if pair && draft.error.is_some() { "!" } else { "" }
}
