//! Commands that move, lose and disorder messages.

use std::collections::BTreeSet;

use super::tell_nothing;
use crate::args::{Args, node_id};
use crate::cluster::{Cluster, Outcome};
use crate::network::Selector;
use crate::render;

/// `from=n1 to=n2 kind=AppendEntries n=1`: all optional.
fn selector(args: &mut Args<'_>) -> Result<Selector, String> {
    Ok(Selector {
        from: args.named_node("from")?,
        to: args.named_node("to")?,
        kind: args.named("kind").map(str::to_owned),
        count_max: args.count("n")?,
    })
}

/// `stabilize [ticks=3]`: delivers until nothing is in flight; with ticks, again after each tick of every node.
pub(super) fn stabilize(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let ticks = args.count("ticks")?.unwrap_or(0);
    cluster.stabilize()?;
    for _ in 0..ticks {
        for id in super::nodes(cluster, Vec::new())? {
            cluster.tick(id)?;
        }
        cluster.stabilize()?;
    }
    Ok(())
}

/// `deliver [from=n1] [to=n2] [kind=Heartbeat] [n=1]`: delivers what is in flight, but not what that causes.
pub(super) fn deliver(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let selector = selector(args)?;
    let count = cluster.deliver(&selector)?;
    tell_nothing(&mut cluster.trace, count, "deliver");
    Ok(())
}

/// `drop [from=n1] [to=n2] [kind=Heartbeat] [n=1]`: the network loses these messages.
pub(super) fn drop(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let selector = selector(args)?;
    let lost = cluster.network.take(&selector);
    for message in &lost {
        cluster.trace.tell(format!("{} ✗ lost", render::message(message)));
    }
    tell_nothing(&mut cluster.trace, lost.len(), "drop");
    Ok(())
}

/// `duplicate [from=n1] [to=n2] [kind=Heartbeat] [n=1]`: the network carries a second copy, behind all others.
pub(super) fn duplicate(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let selector = selector(args)?;
    let copies = cluster.network.duplicate(&selector);
    for message in &copies {
        cluster.trace.tell(format!("{} (copy)", render::message(message)));
    }
    tell_nothing(&mut cluster.trace, copies.len(), "duplicate");
    Ok(())
}

/// `reorder [from=n1] [to=n2] [kind=AppendEntries] [n=2]`: the newest of them will arrive first, the oldest last.
pub(super) fn reorder(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let selector = selector(args)?;
    let turned = cluster.network.reverse(&selector);
    for (number, message) in turned.iter().enumerate() {
        cluster.trace.tell(format!("in flight {}: {}", number + 1, render::message(message)));
    }
    tell_nothing(&mut cluster.trace, turned.len(), "reorder");
    Ok(())
}

/// `partition n1 n2 | n3`: only nodes of one group reach each other. A node named twice is a bridge.
pub(super) fn partition(cluster: &mut Cluster, rest: &str) -> Outcome {
    let mut groups = Vec::new();
    for group in rest.split('|') {
        let nodes: Result<BTreeSet<_>, String> = group.split_whitespace().map(node_id).collect();
        groups.push(nodes?);
    }
    cluster.network.partition(groups);
    Ok(())
}

/// `cut from=n1 to=n2`: what n1 sends to n2 is lost; the other way works.
pub(super) fn cut(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let from = args.named_node("from")?.ok_or("cut from whom?")?;
    let to = args.named_node("to")?.ok_or("cut to whom?")?;
    cluster.network.cut(from, to);
    Ok(())
}

/// `heal`: every link works again.
pub(super) fn heal(cluster: &mut Cluster) -> Outcome {
    cluster.network.heal();
    Ok(())
}

/// `queue`: the messages in flight, oldest first.
pub(super) fn queue(cluster: &mut Cluster) -> Outcome {
    let shown: Vec<String> = cluster.network.in_flight().iter().map(render::message).collect();
    for line in shown {
        cluster.trace.tell(format!("in flight: {line}"));
    }
    Ok(())
}
