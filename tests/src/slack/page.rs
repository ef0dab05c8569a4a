//! The page: messages roughly as Slack shows them, so that an alert can be judged by eye.
//!
//! Everything that was received is escaped. A control sequence that reached the fake unescaped, such as
//! `<!channel>`, is marked in red: in Slack it would ping people or be a link.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use serde_json::Value;

use super::state::{FileView, Message, Shared};

const HEAD: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Slack fake</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; color: #1d1c1d }
article { border-top: 1px solid #ddd; padding: .8rem 0 } .reply { margin-left: 2rem; padding: .3rem 0 }
.meta { color: #616061; font-size: 13px } .bar { border-left: 4px solid #ddd; padding: .1rem .8rem; margin: .4rem 0 }
.text { white-space: pre-wrap; overflow-wrap: anywhere } dl { display: flex; flex-wrap: wrap; margin: .4rem 0 }
dl div { width: 50%; padding: .2rem 0 } dl div.long { width: 100% } dt { font-weight: 600 } dd { margin: 0 }
.file { display: inline-block; border: 1px solid #ccc; border-radius: 6px; padding: .3rem .6rem; margin: .2rem .4rem .2rem 0 }
mark { background: #ffd6d6; color: #a00 }
</style>
<h1>Slack fake</h1>
"#;

/// `GET /`
pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Html<String> {
    let messages = shared.lock().messages();
    let mut page = HEAD.to_owned();
    let _ = writeln!(
        page,
        "<p class=meta>{} messages, newest first. Reload to see more; as JSON: \
         <a href=\"/_fake/messages\">/_fake/messages</a></p>",
        messages.len()
    );
    for message in messages.iter().rev() {
        page.push_str("<article>");
        one(&mut page, message);
        for reply in &message.replies {
            page.push_str("<div class=reply>");
            one(&mut page, reply);
            page.push_str("</div>");
        }
        page.push_str("</article>\n");
    }
    page.push_str("</html>\n");
    Html(page)
}

fn one(page: &mut String, message: &Message) {
    let (channel, ts, via) = (html(&message.channel), html(&message.ts), message.via);
    let _ = writeln!(page, "<div class=meta>{channel} · {ts} · {via}</div>");
    if !message.text.is_empty() {
        let _ = writeln!(page, "<div class=text>{}</div>", slack_text(&message.text));
    }
    for attachment in &message.attachments {
        show_attachment(page, attachment);
    }
    // A thread's files stand with the reply that brought them.
    let in_replies =
        |file: &&FileView| message.replies.iter().flat_map(|r| &r.files).any(|f| f.id == file.id);
    for file in message.files.iter().filter(|f| !in_replies(f)) {
        let (url, title, name, size) = (html(&file.url), html(&file.title), html(&file.name), file.size);
        let _ = writeln!(page, "<a class=file href=\"{url}\" title=\"{name}\">{title} ({size} bytes)</a>");
    }
}

fn show_attachment(page: &mut String, attachment: &Value) {
    let text_of = |name: &str| attachment[name].as_str().unwrap_or_default();
    let _ = writeln!(page, "<div class=text>{}</div>", slack_text(text_of("pretext")));
    let _ = writeln!(page, "<div class=bar style=\"border-color: {}\">", color(text_of("color")));
    let _ = writeln!(page, "<div class=text>{}</div><dl>", slack_text(text_of("text")));
    for field in attachment["fields"].as_array().into_iter().flatten() {
        let class = if field["short"] == true { "short" } else { "long" };
        let title = slack_text(field["title"].as_str().unwrap_or_default());
        let value = slack_text(field["value"].as_str().unwrap_or_default());
        let _ = writeln!(page, "<div class={class}><dt>{title}</dt><dd class=text>{value}</dd></div>");
    }
    page.push_str("</dl></div>");
}

/// A colour that is safe in a style attribute.
fn color(name: &str) -> &str {
    match name {
        "good" => "#2eb67d",
        "warning" => "#ecb22e",
        "danger" => "#e01e5a",
        hex if hex.len() == 7 && hex.starts_with('#') && hex[1..].bytes().all(|b| b.is_ascii_hexdigit()) => {
            hex
        }
        _ => "#ddd",
    }
}

/// Slack's text as HTML: entities become characters, control sequences are marked.
fn slack_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        out.push_str(&html(&entities(&rest[..start])));
        let end = rest[start..].find('>').map_or(rest.len(), |i| start + i + 1);
        let _ = write!(out, "<mark>{}</mark>", html(&rest[start..end]));
        rest = &rest[end..];
    }
    out.push_str(&html(&entities(rest)));
    out
}

fn entities(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::{color, slack_text};

    #[test]
    fn nothing_received_becomes_markup() {
        assert_eq!(slack_text("a &lt;b&gt; &amp;amp;"), "a &lt;b&gt; &amp;amp;");
        assert_eq!(
            slack_text("<!channel> <script>"),
            "<mark>&lt;!channel&gt;</mark> <mark>&lt;script&gt;</mark>"
        );
        assert_eq!(slack_text("open < end"), "open <mark>&lt; end</mark>");
    }

    #[test]
    fn only_colours_reach_the_style() {
        assert_eq!(color("#ff0000"), "#ff0000");
        assert_eq!(color("red; background: url(x)"), "#ddd");
        assert_eq!(color("#ééé"), "#ddd");
    }
}
