//! `remora export --filter`: which stored streams have an item that matches, by running the engine over their packets.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use agent_core::item::StreamId;
use agent_core::{Engine, EngineConfig, Event};

use crate::captured::{Captured, Source};
use crate::kfl::Filter;
use crate::pcap::{Select, StoreFolder};
use crate::resolve::Resolver;
use crate::view::ItemView;

/// The streams, as the store numbers them. What the store does not keep (names, processes, worker) no item has here.
pub(super) fn streams(
    store: &StoreFolder,
    select: &Select<'_>,
    filter: &Filter,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<HashSet<StreamId>> {
    let mut matching = Matching {
        filter,
        view: ItemView::default(),
        node: Resolver::of_this_node(),
        numbers: HashMap::new(),
        found: HashSet::new(),
    };
    let mut engine = Engine::new(EngineConfig::default());
    store.packets(
        select,
        &mut |stored, packet| {
            let handled = engine.handle_packet(packet);
            if let (Some(here), Some(stored)) = (handled.stream, stored) {
                matching.numbers.insert(here, stored);
            }
            matching.take(&mut engine);
        },
        progress,
    )?;
    engine.finish();
    matching.take(&mut engine);
    Ok(matching.found)
}

struct Matching<'a> {
    filter: &'a Filter,
    view: ItemView,
    node: Resolver,
    /// The store's number of each of the engine's streams.
    numbers: HashMap<StreamId, StreamId>,
    found: HashSet<StreamId>,
}

impl Matching<'_> {
    fn take(&mut self, engine: &mut Engine) {
        while let Some(event) = engine.poll_event() {
            match event {
                Event::Item(item) => {
                    let stored = self.numbers.get(&item.stream).copied();
                    let Some(stored) = stored.filter(|stored| !self.found.contains(stored)) else { continue };
                    let captured = Captured::nameless(*item, Arc::clone(self.node.node()), Source::Pcap);
                    if self.filter.matches(&captured, &self.view) {
                        self.found.insert(stored);
                    }
                }
                Event::StreamClosed(summary) => {
                    self.numbers.remove(&summary.stream);
                }
                Event::Trim(_) | Event::Text(_) => {}
            }
        }
    }
}
