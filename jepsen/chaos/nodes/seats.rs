//! Which nodes belong to the cluster. One that is exchanged gives its place to another one and joins again later, with
//! an empty folder.

use std::net::SocketAddr;

use super::Nodes;

impl Nodes {
    /// Where the nodes are that belong to the cluster.
    pub fn members(&self) -> Vec<SocketAddr> {
        self.seats.iter().map(|at| self.addresses[*at]).collect()
    }

    /// The node that has a place.
    pub fn seat(&self, place: usize) -> usize {
        self.seats[place]
    }

    /// A node that belongs to no cluster and can be started.
    pub fn spare(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|at| !self.seats.contains(at) && !self.runs(*at) && self.is_well(*at))
    }

    /// It has taken the place of another one.
    pub fn take_seat(&mut self, place: usize, at: usize) {
        self.seats[place] = at;
    }

    /// No fault is on a node that has to be undone.
    pub fn is_well(&self, at: usize) -> bool {
        !self.nodes[at].is_harmed
    }

    /// Its peer address.
    pub fn peer(&self, at: usize) -> &str {
        &self.peers[at]
    }

    /// It leaves the cluster, and ends by itself.
    pub fn let_end(&mut self, at: usize) {
        self.nodes[at].leaves = true;
    }

    /// It is dead, and has lost its disk.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn lose(&mut self, at: usize) -> anyhow::Result<()> {
        self.kill(&[at])?;
        self.put_aside(at)
    }

    /// It starts with an empty folder, and asks another node to be taken in.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn join(&mut self, at: usize, asks: usize) -> anyhow::Result<()> {
        self.put_aside(at)?;
        self.nodes[at].begin = vec!["--join".to_string(), self.peers[asks].clone()];
        self.nodes[at].leaves = false;
        self.spawn(at)
    }

    /// What it held stays beside its folder, for whoever looks for the cause of a finding.
    fn put_aside(&self, at: usize) -> anyhow::Result<()> {
        let data = &self.nodes[at].data;
        if data.exists() {
            let aside = (1..).map(|number| data.with_extension(format!("old-{number}"))).find(|path| !path.exists());
            std::fs::rename(data, aside.unwrap_or_default())?;
        }
        Ok(std::fs::create_dir_all(data)?)
    }
}
