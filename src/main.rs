//! The `ringswitch` program. All it can do is in [`ringswitch::cli`].

/// Counts what the runs of dial plans hold, so that each is bounded.
#[global_allocator]
static MEMORY: dialplan::Counted<mimalloc::MiMalloc> = dialplan::Counted::new(mimalloc::MiMalloc);

fn main() -> std::process::ExitCode {
    ringswitch::cli::main()
}
