//! What faults do to nodes, and how it is undone.

use rustix::process::Signal;

use super::{Nodes, shapes};
use crate::cables::Weather;
use crate::clocks::HOUR_S;
use crate::faults::Fault;

fn weather(fault: Fault) -> Weather {
    match fault {
        Fault::Loss => Weather::Loss,
        Fault::Narrow => Weather::Narrow,
        _ => Weather::Slow,
    }
}

impl Nodes {
    /// A fault begins at these sites.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn harm(&mut self, fault: Fault, sites: &[usize]) -> anyhow::Result<()> {
        let nodes = self.nodes_at(sites);
        nodes.iter().for_each(|at| self.nodes[*at].is_harmed = true);
        match fault {
            Fault::Slots | Fault::Members | Fault::Upgrade | Fault::Transfer | Fault::Damage => {
                anyhow::bail!("an operator does that")
            }
            Fault::Kill | Fault::KillAll | Fault::Away => self.kill(&nodes),
            Fault::Pause => self.signal(&nodes, Signal::STOP),
            Fault::Partition | Fault::OneWay | Fault::Ring | Fault::Bridge | Fault::Minority => {
                self.cables.cut(&self.deaf(fault, sites));
                Ok(())
            }
            Fault::Refuse => {
                self.cables.refuse(&nodes);
                Ok(())
            }
            Fault::Slow | Fault::Loss | Fault::Narrow => {
                self.cables.blow(&nodes, weather(fault));
                Ok(())
            }
            Fault::Power => self.disks()?.fail(&nodes).and_then(|()| self.kill(&nodes)),
            Fault::Io => {
                nodes.iter().for_each(|at| self.nodes[*at].may_end = true);
                self.disks()?.fail(&nodes)
            }
            Fault::Full => self.disks()?.fill(&nodes),
            Fault::Clock => {
                // Back at one node, ahead at the next.
                let jump = |at: usize| if at.is_multiple_of(2) { HOUR_S } else { -HOUR_S };
                nodes.iter().try_for_each(|at| self.clocks()?.set(*at, jump(*at)))
            }
            Fault::Strobe => {
                self.strobing.extend(&nodes);
                Ok(())
            }
            Fault::Drift => nodes.iter().try_for_each(|at| self.clocks()?.drift(*at)),
        }
    }

    /// It ends.
    ///
    /// # Errors
    /// When it cannot be undone.
    pub fn heal(&mut self, fault: Fault, sites: &[usize]) -> anyhow::Result<()> {
        let nodes = self.nodes_at(sites);
        nodes.iter().for_each(|at| self.nodes[*at].is_harmed = false);
        match fault {
            Fault::Slots | Fault::Members | Fault::Upgrade | Fault::Transfer | Fault::Damage => {
                anyhow::bail!("an operator does that")
            }
            Fault::Kill | Fault::KillAll | Fault::Away => self.start_these(&nodes),
            Fault::Pause => self.signal(&nodes, Signal::CONT),
            Fault::Partition | Fault::OneWay | Fault::Ring | Fault::Bridge | Fault::Minority => {
                self.cables.mend(&self.deaf(fault, sites));
                Ok(())
            }
            Fault::Refuse => {
                self.cables.admit(&nodes);
                Ok(())
            }
            Fault::Slow | Fault::Loss | Fault::Narrow => {
                self.cables.calm(&nodes, weather(fault));
                Ok(())
            }
            Fault::Power => {
                self.disks()?.come_back(&nodes)?;
                self.start_these(&nodes)
            }
            Fault::Io => {
                // Some may have stopped by themselves, as they should; the others stop now.
                let still: Vec<usize> = nodes.iter().copied().filter(|at| self.nodes[*at].child.is_some()).collect();
                self.kill(&still)?;
                nodes.iter().for_each(|at| self.nodes[*at].may_end = false);
                self.disks()?.come_back(&nodes)?;
                self.start_these(&nodes)
            }
            Fault::Full => self.disks()?.empty(&nodes),
            Fault::Strobe => {
                self.strobing.retain(|at| !nodes.contains(at));
                nodes.iter().try_for_each(|at| self.clocks()?.set(*at, 0))
            }
            Fault::Clock | Fault::Drift => nodes.iter().try_for_each(|at| self.clocks()?.set(*at, 0)),
        }
    }

    /// The clocks that jump back and forth are where they should be at this time.
    ///
    /// # Errors
    /// When one cannot be set.
    pub fn strobe(&self, time_ms: u64) -> anyhow::Result<()> {
        self.strobing.iter().try_for_each(|at| self.clocks()?.strobe(*at, time_ms))
    }

    /// Who does not hear whom: pairs of the one that speaks, and the other one.
    fn deaf(&self, fault: Fault, sites: &[usize]) -> Vec<(usize, usize)> {
        let all = 0..self.nodes.len();
        let site = |node: usize| node % self.sites.max(1);
        let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        pairs.filter(|(from, to)| !shapes::hears(fault, sites, site(*to), site(*from))).collect()
    }

    fn start_these(&mut self, nodes: &[usize]) -> anyhow::Result<()> {
        nodes.iter().try_for_each(|at| self.spawn(*at))
    }
}
