//! Leaders that hand their groups over while clients work.

use std::sync::Arc;
use std::time::Duration;

use quoris_raft::Node;

use crate::dice::Dice;
use crate::host::{Phase, World};
use crate::name;

/// How long a transfer may take.
const TRANSFER_MAX: Duration = Duration::from_millis(500);

/// Moves leaders away from a node until the load ends; in half of all runs.
pub async fn mover(node_index: usize, node: Node, world: Arc<World>, mut dice: Dice) {
    if world.seed.is_multiple_of(2) {
        return;
    }
    while world.phase() == Phase::Load {
        tokio::time::sleep(Duration::from_millis(dice.between(100, 1200))).await;
        let led: Vec<_> = node.groups().into_iter().filter_map(|g| node.group(g)).filter(|g| g.leads()).collect();
        if !led.is_empty() {
            let group = &led[dice.below(led.len() as u64) as usize];
            world.history.trace(format!("{} hands {} over", name(node_index), group.replica.group));
            group.hand_over(TRANSFER_MAX).await;
        }
    }
}
