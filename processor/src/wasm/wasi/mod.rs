//! WASI 0.2, linked and empty: no environment, no arguments, no folder, every socket refused, stdout and stderr to the
//! call's log, clocks and randomness from the record.
//!
//! Links: cli, clocks, filesystem, io, random, sockets. State per store: [`Wasi`], reset before each call. May touch: nothing outside
//! of it. No host function here blocks, but for a guest that waits for the answer to an HTTP request: time is virtual, a sleep moves the clock and returns.

mod clock;
mod random;
mod sockets;
mod streams;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::sockets::WasiSocketsView as _;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use self::clock::Clock;
use self::random::Random;
use super::call::Call;
use super::logs::SharedLogs;
use super::state::State;

/// Open resources of one guest; beyond this the call traps.
const RESOURCES_MAX: usize = 10_000;

pub(super) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    clock: Arc<Clock>,
    random: Random,
    logs: SharedLogs,
}

impl Wasi {
    pub(super) fn new(logs: SharedLogs) -> Self {
        // The context's own clocks, randomness and streams are never linked.
        let ctx = WasiCtx::builder()
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            ctx,
            table,
            clock: Arc::default(),
            random: Random::default(),
            logs,
        }
    }

    /// Requests under way: while there are some, what would wait waits for them.
    pub(super) fn wait_for(&mut self, in_flight: Arc<AtomicU32>) {
        self.clock = Arc::new(Clock::waiting_for(in_flight));
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) fn begin(&mut self, call: &Call<'_>) {
        self.clock.reset(call.time_us, call.limits.time);
        self.random.reset(call);
    }
}

/// Accessor for the interfaces that are Weir's own.
struct HasWasi;

impl HasData for HasWasi {
    type Data<'a> = &'a mut Wasi;
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = wasi(self);
        WasiCtxView {
            ctx: &mut wasi.ctx,
            table: &mut wasi.table,
        }
    }
}

fn wasi(state: &mut State) -> &mut Wasi {
    state.wasi.as_mut().expect(
        "WASI functions are called only by components that import them, and those have the state",
    )
}

pub(super) fn add_to_linker(l: &mut Linker<State>) -> wasmtime::Result<()> {
    use bindings::{cli, clocks, filesystem, random, sockets, sync};
    use wasmtime_wasi::cli::WasiCli;
    use wasmtime_wasi::filesystem::WasiFilesystem;
    use wasmtime_wasi::sockets::WasiSockets;

    // Weir's own.
    clocks::wall_clock::add_to_linker::<_, HasWasi>(l, wasi)?;
    clocks::monotonic_clock::add_to_linker::<_, HasWasi>(l, wasi)?;
    random::random::add_to_linker::<_, HasWasi>(l, wasi)?;
    random::insecure::add_to_linker::<_, HasWasi>(l, wasi)?;
    random::insecure_seed::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::stdin::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::stdout::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::stderr::add_to_linker::<_, HasWasi>(l, wasi)?;
    sync::io::poll::add_to_linker::<_, HasWasi>(l, wasi)?;
    sync::io::streams::add_to_linker::<_, HasWasi>(l, wasi)?;
    sockets::network::add_to_linker::<_, HasWasi>(
        l,
        &sockets::network::LinkOptions::default(),
        wasi,
    )?;
    sockets::tcp_create_socket::add_to_linker::<_, HasWasi>(l, wasi)?;
    sync::sockets::udp_create_socket::add_to_linker::<_, HasWasi>(l, wasi)?;

    // wasmtime's, over an empty context: no preopen and no socket exists, so there is nothing to call most of it on.
    bindings::io::error::add_to_linker::<_, HasTable>(l, |state| &mut wasi(state).table)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, State::cli)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)?;
    sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sync::sockets::tcp::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    sync::sockets::udp::add_to_linker::<_, WasiSockets>(l, State::sockets)?;
    Ok(())
}
