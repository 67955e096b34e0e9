//! Addresses of their own for containers and for who asks them: network namespaces on a bridge that is in one as well,
//! so that nothing of the machine's own network is touched. Made by a test, and gone with it.

use std::process::Command;
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The first three parts of every address.
const PREFIX: &str = "10.77.0";

/// The number of the namespace that clients are in.
const CLIENT: usize = 200;

/// So many nodes, and a place for clients.
pub(super) struct Network {
    name: String,
    namespaces: Vec<String>,
}

impl Network {
    /// Makes the namespaces and their links.
    pub(super) fn create(nodes: usize) -> Self {
        let name = format!("q{}", std::process::id());
        let mut network = Self { namespaces: Vec::new(), name };
        let bridge = network.add_namespace("br");
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &bridge, "link", "set", "br0", "up"]);
        for number in (0..nodes).chain([CLIENT]) {
            let namespace = network.add_namespace(&number.to_string());
            let port = format!("v{number}");
            let peer = ["peer", "name", "eth0", "netns", &namespace];
            ip(&[&["-n", &bridge, "link", "add", &port, "type", "veth"], &peer[..]].concat());
            ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"]);
            ip(&["-n", &namespace, "addr", "add", &format!("{}/24", Self::address(number)), "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        network
    }

    fn add_namespace(&mut self, suffix: &str) -> String {
        let namespace = format!("{}-{suffix}", self.name);
        ip(&["netns", "add", &namespace]);
        self.namespaces.push(namespace.clone());
        namespace
    }

    /// The address of a node.
    pub(super) fn address(node: usize) -> String {
        format!("{PREFIX}.{}", node + 1)
    }

    /// The file of a node's namespace.
    pub(super) fn namespace(&self, node: usize) -> String {
        format!("/var/run/netns/{}-{node}", self.name)
    }

    /// Runs `work` on a thread whose sockets are in the namespace of clients.
    pub(super) fn as_client<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = self.namespace(CLIENT);
        thread::spawn(move || {
            let file = std::fs::File::open(&path).expect("the namespace is there");
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            work()
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // What is left of a test that failed must not hide why it did.
            Command::new("ip").args(["netns", "del", namespace]).status().ok();
        }
    }
}

/// Why no namespaces can be made here, if so.
pub(super) fn obstacle() -> Option<String> {
    let name = format!("q{}-try", std::process::id());
    let output = match Command::new("ip").args(["netns", "add", &name]).output() {
        Ok(output) if output.status.success() => {
            Command::new("ip").args(["netns", "del", &name]).status().ok();
            return None;
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!("no network namespace can be made: {output}"))
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip can be started");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
