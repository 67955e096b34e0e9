//! Which component a symbol belongs to.
//!
//! A symbol of the kernel is known by how its name begins. One of Rust is known by the first crate that it names beside
//! the standard library: `<A as B>::f` is A's, and what drops an `A` is A's too. Self time is what is divided, and the
//! compiler puts small functions into their callers, so a component has what was not put into another.

/// What the time is spent on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Component {
    /// Sockets, TCP and loopback.
    KernelNetwork,
    /// Files: the page cache, the file system, the device.
    KernelDisk,
    /// Who runs and who waits: the scheduler, futexes, epoll, timers.
    KernelScheduling,
    /// Pages that are given to a process and zeroed.
    KernelMemory,
    /// Its doors, and what has no place above.
    KernelOther,
    /// HTTP/2 and gRPC: h2, hyper, tonic, http, tower, axum.
    Http,
    /// Messages to bytes and back.
    Protobuf,
    /// The runtime.
    Tokio,
    /// The allocator, buffers, and the copying and comparing of bytes.
    Memory,
    /// The core.
    Raft,
    /// The log.
    Wal,
    /// The keys and what is done to them.
    State,
    /// The results of clients' writes.
    Sessions,
    /// Snapshots.
    Snapshots,
    /// What clients and operators are served by: limits, admission, routing.
    Api,
    /// The node's loop, and the engine that it drives.
    Loop,
    /// The streams between nodes.
    Transport,
    /// Checksums.
    Crc,
    /// Traces and logs.
    Telemetry,
    /// The client library.
    Client,
    /// The benchmark itself.
    Generator,
    /// The standard library, and what is not known here.
    Other,
}

use Component::{
    Api, Client, Crc, Generator, Http, KernelDisk, KernelMemory, KernelNetwork, KernelOther, KernelScheduling, Loop,
    Memory, Other, Protobuf, Raft, Sessions, Snapshots, State, Telemetry, Tokio, Transport, Wal,
};

impl Component {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Component; 22] = [
        KernelNetwork,
        KernelDisk,
        KernelScheduling,
        KernelMemory,
        KernelOther,
        Http,
        Protobuf,
        Tokio,
        Memory,
        Raft,
        Wal,
        State,
        Sessions,
        Snapshots,
        Api,
        Loop,
        Transport,
        Crc,
        Telemetry,
        Client,
        Generator,
        Other,
    ];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            KernelNetwork => "kernel: network",
            KernelDisk => "kernel: disk, page cache",
            KernelScheduling => "kernel: scheduling, futex, epoll",
            KernelMemory => "kernel: pages of processes",
            KernelOther => "kernel: other",
            Http => "h2, hyper, tonic, http",
            Protobuf => "prost, proto",
            Tokio => "tokio",
            Memory => "allocator, buffers, memcpy",
            Raft => "raft",
            Wal => "wal",
            State => "map, state machine",
            Sessions => "sessions",
            Snapshots => "snapshots",
            Api => "api, admission",
            Loop => "node loop, engine",
            Transport => "transport",
            Crc => "crc",
            Telemetry => "telemetry",
            Client => "client library",
            Generator => "generator",
            Other => "std, other",
        }
    }

    /// Where a symbol belongs that was seen at work on a thread of this name.
    pub(crate) fn of(thread: &str, object: &str, symbol: &str) -> Component {
        if object.starts_with("[kernel") {
            return of_kernel(thread, symbol);
        }
        if MEMORY_FUNCTIONS.split_whitespace().any(|beginning| symbol.starts_with(beginning)) {
            return Memory;
        }
        of_path(symbol).unwrap_or(Other)
    }
}

/// How functions of C and of the allocator begin, which have no path.
const MEMORY_FUNCTIONS: &str = "mi_ _mi_ __rustc:: __rust_ __mem memcpy memmove memset memcmp bcmp malloc free realloc \
                                calloc cfree __libc_malloc";

/// Paths of Rust, by words. The longest that a symbol's path begins with is taken.
const PATHS: [(Component, &str); 18] = [
    (Wal, "engine::wal engine::disk std::fs"),
    (Sessions, "engine::kv::sessions imbl"),
    (Snapshots, "engine::kv::image engine::snapshot engine::engine::snapshots"),
    (State, "engine::kv xxhash_rust"),
    (Loop, "engine quorate_server::node"),
    (Raft, "raft"),
    (Api, "quorate_server::api"),
    (Transport, "quorate_server::transport"),
    (Telemetry, "quorate_server::telemetry tracing tracing_core tracing_subscriber opentelemetry"),
    (Client, "client_cli"),
    (Generator, "bench tests hdrhistogram rand rand_core chacha20"),
    // What tonic generates is the way of a call; the rest of the crate is messages.
    (Http, "proto::kv::v1::kv_service_server proto::kv::v1::kv_service_client"),
    (Http, "proto::raft::v1::raft_service_server proto::raft::v1::raft_service_client"),
    (
        Http,
        "tonic h2 hyper hyper_util http http_body http_body_util httparse httpdate axum axum_core tower tower_service \
         tower_layer matchit percent_encoding slab indexmap tokio_util atomic_waker want",
    ),
    (Protobuf, "proto prost prost_types tonic_prost core::str::validations core::str::converts"),
    (Tokio, "tokio tokio_stream mio futures_channel futures_core futures_util"),
    (Memory, "bytes"),
    (Crc, "crc32c"),
];

/// The component of the first path in a symbol that is known.
fn of_path(symbol: &str) -> Option<Component> {
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let bytes = symbol.as_bytes();
    let begins = |at: &usize| is_in_name(bytes[*at]) && (*at == 0 || !is_in_name(bytes[*at - 1]));
    (0..bytes.len()).filter(begins).find_map(|at| {
        let path = &symbol[at..];
        let is_below = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
        let known = PATHS.iter().flat_map(|(component, names)| names.split_whitespace().map(|name| (*component, name)));
        let longest = known.filter(|(_, name)| is_below(name)).max_by_key(|(_, name)| name.len())?;
        Some(longest.0)
    })
}

/// Threads that work on files and on nothing else: what the kernel does for them is the disk's.
const DISK_THREADS: [&str; 3] = ["wal-", "snapshot", "disk-space"];

/// How symbols of the kernel begin, by words, without the underscores before them. The first that fits is taken.
const KERNEL: [(Component, &str); 4] = [
    (
        KernelMemory,
        "clear_page folio_zero_user clear_huge clear_user do_anonymous do_user_addr_fault exc_page_fault \
         asm_exc_page_fault handle_mm_fault handle_pte do_fault lock_vma vma_ pte_ pmd_ pud_ mas_ mt_ mmap_ \
         do_mmap unmap zap_ madvise tlb_ flush_tlb lru_ folio_add_anon folio_add_new_anon mem_cgroup \
         get_page_from_freelist alloc_pages alloc_frozen_pages free_pages free_frozen free_unref rmqueue \
         prep_new_page vma_alloc_folio khugepaged mprotect cgroup_charge charge_memcg try_charge",
    ),
    (
        KernelDisk,
        "ext4 jbd2 xfs_ btrfs blk bio_ submit_bio iowrite ioread virtqueue virtio virtblk vring vp_ folio filemap \
         writeback write_cache iomap mpage block_ buffer_ generic_perform generic_file balance_dirty xas_ xa_ \
         copy_folio copy_page_from_iter_atomic fault_in mark_buffer find_get_block vfs_fsync do_fsync file_write \
         inode dio_ elv_ dd_ mb_ percpu_counter crc32c wait_on_buffer wait_on_page page_cache dquot sbitmap wb_ \
         dirty create_empty_buffers alloc_buffer try_to_free_buffers",
    ),
    (
        KernelNetwork,
        "tcp ip_ ipv4 ip4 inet skb sock sk_ net dev_ loopback eth_ bbr udp validate_xmit sch_ qdisc napi nf_ fib_ \
         dst_ neigh csum release_sock lock_sock kmem_cache kmalloc kfree slab allocate_slab process_backlog \
         enqueue_to_backlog handle_softirqs do_softirq local_bh_enable alloc_skb build_skb pskb kfree_skb \
         consume_skb kmalloc_reserve copy_to_iter copy_from_iter simple_copy_to_iter security_sock unix_ \
         raw_spin_unlock_bh check_object_size import_iovec import_ubuf sys_send sys_recv sendmsg recvmsg \
         is_vmalloc_addr virt_addr_valid rt_ ref_tracker bpf_skops mptcp copy_iovec",
    ),
    (
        KernelScheduling,
        "futex ep_ epoll do_epoll eventpoll sys_epoll schedule sched finish_task_switch try_to_wake ttwu wake_up \
         wake_q pick_ enqueue_task dequeue_task enqueue_entity dequeue_entit update_ switch_ prepare_task set_next \
         put_prev place_entity check_preempt wakeup_preempt resched select_task select_idle hrtimer timer \
         mod_timer lock_timer tick_ tmigr clockevents lapic native_apic ktime_get read_tsc eventfd rcu \
         raw_spin_unlock_irq raw_spin_rq raw_spin_lock_irq autoremove_wake default_wake prepare_to_wait \
         finish_wait nanosleep do_nanosleep smp_call send_call avg_vruntime vruntime reweight load_avg psi_ \
         cpuacct sync_entity perf_event_task x2apic sysvec_ pv_native sys_futex plist hash_futex get_futex \
         dl_server yield",
    ),
];

fn of_kernel(thread: &str, symbol: &str) -> Component {
    let name = symbol.trim_start_matches("__x64_").trim_start_matches('_');
    let begins = |beginnings: &str| beginnings.split_whitespace().any(|beginning| name.starts_with(beginning));
    let is_for_disk = DISK_THREADS.iter().any(|beginning| thread.starts_with(beginning));
    match KERNEL.iter().find(|(_, beginnings)| begins(beginnings)) {
        // Copying and the kernel's allocator are counted as the network's, but these threads use none.
        Some((KernelNetwork, _)) | None if is_for_disk => KernelDisk,
        Some((component, _)) => *component,
        None => KernelOther,
    }
}

#[cfg(test)]
mod tests {
    use super::{Component, Component::*};

    fn expect(thread: &str, object: &str, rows: &[(&str, Component)]) {
        for &(symbol, component) in rows {
            assert_eq!(Component::of(thread, object, symbol), component, "{symbol} on {thread}");
        }
    }

    #[test]
    fn symbols_of_rust_belong_to_the_first_crate_that_they_name() {
        let rows = [
            ("h2::proto::streams::streams::Actions::reset", Http),
            ("<h2::proto::streams::store::Ptr as core::ops::deref::Deref>::deref", Http),
            ("core::ptr::drop_in_place<engine::kv::key_map::node::Node<engine::kv::record::Record>>", State),
            ("<quorate_server::api::kv_service::KvApi<N> as proto::kv::v1::kv_service_server::KvService>::put", Api),
            ("<proto::kv::v1::kv_service_server::KvServiceServer<T> as tower_service::Service<B>>::call", Http),
            ("proto::raft::v1::entry::Payload::encode", Protobuf),
            ("<prost::encoding::Foo as bytes::buf::Buf>::chunk", Protobuf),
            ("engine::wal::machine::Wal::next_work", Wal),
            ("engine::kv::sessions::Sessions::touch", Sessions),
            ("engine::replica::Replica::advance", Loop),
            ("quorate_server::node::event_loop::EventLoop::carry_out", Loop),
            ("quorate_server::transport::convert::to_frame", Transport),
            ("raft::progress::Progress::accepted", Raft),
            ("crc32c::hw_x86_64::crc32c", Crc),
            ("tokio::runtime::task::raw::schedule", Tokio),
            ("core::str::validations::run_utf8_validation", Protobuf),
            ("<alloc::vec::Vec<T,A> as core::ops::drop::Drop>::drop", Other),
            ("__ieee754_pow_fma", Other),
        ];
        expect("quorate-server", "quorate-server", &rows);
    }

    #[test]
    fn a_crate_is_not_known_by_a_part_of_its_name() {
        expect("main", "main", &[("craft::f", Other), ("h2o::f", Other), ("my::raft::f", Other), ("raft", Other)]);
    }

    #[test]
    fn functions_of_the_allocator_and_of_c_are_memory() {
        expect("main", "libc.so.6", &[("__memmove_avx512_unaligned_erms", Memory), ("__memcmp_evex_movbe", Memory)]);
        expect(
            "main",
            "server",
            &[("_mi_page_malloc_zero", Memory), ("mi_free", Memory), ("bytes::shared_drop", Memory)],
        );
    }

    #[test]
    fn symbols_of_the_kernel_are_known_by_how_they_begin() {
        let rows = [
            ("__tcp_transmit_skb", KernelNetwork),
            ("_copy_from_iter", KernelNetwork),
            ("ext4_block_write_begin", KernelDisk),
            ("iowrite16", KernelDisk),
            ("finish_task_switch.isra.0", KernelScheduling),
            ("_raw_spin_unlock_irqrestore", KernelScheduling),
            ("__x64_sys_epoll_wait", KernelScheduling),
            ("clear_page_erms", KernelMemory),
            ("folio_zero_user", KernelMemory),
            ("do_syscall_64", KernelOther),
        ];
        expect("quorate-server", "[kernel.kallsyms]", &rows);
    }

    #[test]
    fn what_the_kernel_does_for_the_threads_of_files_is_the_disks() {
        let rows = [
            ("_copy_from_iter", KernelDisk),
            ("do_syscall_64", KernelDisk),
            ("finish_task_switch.isra.0", KernelScheduling),
            ("clear_page_erms", KernelMemory),
        ];
        expect("wal-commit", "[kernel.kallsyms]", &rows);
    }

    #[test]
    fn a_symbol_of_the_kernel_is_not_one_of_the_program() {
        expect("main", "server", &[("tcp_sendmsg", Other)]);
        expect("main", "[kernel.kallsyms]", &[("memcpy", KernelOther)]);
    }

    #[test]
    fn each_component_has_a_name_of_its_own_and_a_place_in_the_report() {
        let mut names: Vec<_> = Component::ALL.map(Component::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Component::ALL.len());
        assert!(Component::ALL.is_sorted(), "the order of the report is that of the type");
    }
}
