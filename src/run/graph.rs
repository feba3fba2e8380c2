//! The dagrs graph: one node a cell. The only file that names dagrs.
//!
//! Edges of dagrs are channels, not order, so a node first receives from every parent. A parent that failed or
//! was skipped closes its channel instead of sending, which is how its children learn that they are skipped.
//! dagrs starts every node that is ready at once, so a node does nothing itself: it says that it is ready and
//! waits for the word of the [`super::dispatch`]er, which holds the slots. Nothing here blocks or computes.

use std::sync::{Arc, mpsc::Sender};

use dagrs::{
    Action, Content, DefaultNode, EnvVar, Graph, InChannels, Node, NodeId, NodeTable, OutChannels, Output,
    async_trait::async_trait,
};
use tokio::sync::oneshot;

use super::dispatch::Message;
use crate::error::{Error, Result};

/// The word to a node whether its cell is current now, for its children.
pub type Reply = oneshot::Sender<bool>;

/// One cell of the graph. Parents are places in the list of nodes, each once, all earlier than this one.
pub struct Spec {
    pub name: String,
    pub parents: Vec<usize>,
}

struct CellAction {
    place: usize,
    parents: Vec<(NodeId, usize)>,
    tell: Sender<Message>,
}

#[async_trait]
impl Action for CellAction {
    async fn run(&self, inputs: &mut InChannels, outputs: &mut OutChannels, _: Arc<EnvVar>) -> Output {
        for (parent, place) in &self.parents {
            if inputs.recv_from(parent).await.is_err() {
                // The dispatcher is gone only when the run is over, and then nobody is left to tell.
                let _ = self.tell.send(Message::Skipped { place: self.place, because: *place });
                return Output::execution_failed("skipped");
            }
        }
        let (reply, word) = oneshot::channel();
        let told = self.tell.send(Message::Ready { place: self.place, reply });
        if told.is_ok() && word.await == Ok(true) {
            // A child that has already been skipped for another parent has closed its end.
            outputs.broadcast(Content::new(())).await;
            return Output::empty();
        }
        Output::execution_failed("not current")
    }
}

/// Drives the graph until every node has been told about; blocks the calling thread.
pub fn drive(specs: &[Spec], tell: Sender<Message>) -> Result<()> {
    let bug = |e: dagrs::DagrsError| Error::invalid(format!("bug: graph: {e}"));
    let mut table = NodeTable::new();
    let mut graph = Graph::new();
    let mut ids: Vec<NodeId> = Vec::with_capacity(specs.len());
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); specs.len()];
    for (place, spec) in specs.iter().enumerate() {
        let parents = spec.parents.iter().map(|&p| (ids[p], p)).collect();
        let action = CellAction { place, parents, tell: tell.clone() };
        let node = DefaultNode::with_action(spec.name.clone(), action, &mut table);
        ids.push(node.id());
        graph.add_node(node).map_err(bug)?;
        for &parent in &spec.parents {
            children[parent].push(place);
        }
    }
    for (parent, children) in children.iter().enumerate() {
        if !children.is_empty() {
            graph.add_edge(ids[parent], children.iter().map(|&c| ids[c])).map_err(bug)?;
        }
    }
    graph.set_env(EnvVar::new(table));
    // The actions only pass messages, so one thread is plenty and costs nothing to start.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| Error::invalid(format!("cannot start the graph's runtime: {e}")))?;
    // A failed node fails the graph; the dispatcher knows better which and why.
    let _ = runtime.block_on(graph.async_start());
    Ok(())
}
