//! Telling which payload of a stream nobody will look at: see [`Trim`].

use super::config::{Event, Trim, TrimWindow};
use super::feed::Cx;
use super::stream::Stream;

impl Stream {
    /// Tells if what is needed of the bytes to come from an end has changed. Not in tunnels and VLANs, where whoever leaves
    /// out payload may see other addresses, or the same ones in several.
    pub(super) fn trim(&mut self, from: usize, cx: &mut Cx<'_>) {
        if !cx.key.is_plain() {
            return;
        }
        let bytes = self.app.unneeded(self.meta.side(from));
        if let Some((seq, len)) = self.sides[from].trim(bytes) {
            let window = (len > 0).then_some(TrimWindow { from: seq.0, len });
            self.tell_trim(from, window, cx);
        }
    }

    fn tell_trim(&self, from: usize, window: Option<TrimWindow>, cx: &mut Cx<'_>) {
        let end = |end| std::net::SocketAddr::new(cx.key.addr(end), cx.key.port(end));
        let trim = Trim { stream: self.meta.id, from: end(from), to: end(1 - from), window };
        cx.shared.events.push_back(Event::Trim(Box::new(trim)));
    }

    /// The stream is over: all that comes on its addresses and ports is another's.
    pub(super) fn untrim(&mut self, cx: &mut Cx<'_>) {
        for from in [0, 1] {
            if self.sides[from].untrim() {
                self.tell_trim(from, None, cx);
            }
        }
    }
}
