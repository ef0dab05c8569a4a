//! The interfaces that are captured from, by name or by pattern, as they come and go.

use super::AfPacketError;

/// What was asked for, and what of that is there.
#[derive(Debug)]
pub(super) struct Interfaces {
    wanted: Vec<String>,
    there: Vec<Interface>,
    /// It is one, named: sockets are bound to it, and cannot be to another that is made under its name.
    fixed: bool,
}

/// An interface of the calling thread's network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
}

/// What has changed since the last look, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Interfaces that are new, or are there again.
    pub come: Vec<String>,
    /// Interfaces that are there no more.
    pub gone: Vec<String>,
}

impl Interfaces {
    /// Looks the names up. A pattern may fit nothing yet; a plain name must be there.
    pub(super) fn find(wanted: &[String]) -> Result<Self, AfPacketError> {
        if wanted.is_empty() {
            return Err(AfPacketError::NoInterfaces);
        }
        let all = all().unwrap_or_default();
        for name in wanted.iter().filter(|name| !is_pattern(name)) {
            if all.iter().all(|interface| interface.name != *name) {
                let existing = all.into_iter().map(|interface| interface.name).collect();
                return Err(AfPacketError::NoInterface { name: name.clone(), existing });
            }
        }
        let mut found = Self { wanted: wanted.to_vec(), there: Vec::new(), fixed: false };
        found.there = all.into_iter().filter(|interface| found.wants(&interface.name)).collect();
        found.fixed = found.there.len() == 1 && !found.has_patterns();
        Ok(found)
    }

    /// The one that sockets can be bound to, if it can only ever be one.
    pub(super) fn only(&self) -> Option<&Interface> {
        self.there.first().filter(|_| self.fixed)
    }

    pub(super) fn there(&self) -> &[Interface] {
        &self.there
    }

    pub(super) fn has_patterns(&self) -> bool {
        self.wanted.iter().any(|name| is_pattern(name))
    }

    /// Looks again. Where several are wanted and one was made anew under its name, it has gone and come.
    pub(super) fn look(&mut self) -> Changes {
        // A look that fails says nothing about what is there.
        let Some(all) = all() else { return Changes::default() };
        let known = |interface: &Interface| self.there.iter().any(|i| i.index == interface.index);
        let now: Vec<_> =
            all.into_iter().filter(|i| self.wants(&i.name) && (!self.fixed || known(i))).collect();
        let names = |of: &[Interface], without: &[Interface]| {
            let apart = of.iter().filter(|i| without.iter().all(|other| other.index != i.index));
            apart.map(|interface| interface.name.clone()).collect()
        };
        let changes = Changes { come: names(&now, &self.there), gone: names(&self.there, &now) };
        self.there = now;
        changes
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.iter().any(|wanted| fits(wanted, name))
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// Whether a name fits a pattern, in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(before) else { return false };
    (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| fits(rest, name)))
}

fn all() -> Option<Vec<Interface>> {
    let all = nix::net::if_::if_nameindex().ok()?;
    let interface = |i: &nix::net::if_::Interface| Interface {
        name: i.name().to_string_lossy().into_owned(),
        index: i.index(),
    };
    Some(all.iter().map(interface).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, expected) in [
            ("veth*", "veth0", true),
            ("veth*", "veth", true),
            ("veth*", "eth0", false),
            ("*", "anything", true),
            ("*eth*0", "veth10", true),
            ("*eth*0", "veth11", false),
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_may_fit_nothing_and_a_name_may_not() {
        let find =
            |names: &[&str]| Interfaces::find(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        let none = find(&["no-such*"]).unwrap();
        assert!(none.there().is_empty() && none.has_patterns() && none.only().is_none());
        assert!(matches!(find(&["lo", "no-such0"]), Err(AfPacketError::NoInterface { .. })));
        let mut lo = find(&["lo", "lo"]).unwrap();
        assert_eq!(lo.only().map(|i| i.name.as_str()), Some("lo"));
        assert_eq!(lo.look(), Changes::default());
        assert_eq!(find(&["l*", "lo"]).unwrap().only(), None);
    }
}
