//! Portcullis: reads Gateway API resources and SecurityPolicies and serves them to Envoy over xDS.

mod admin;
mod answers;
mod cases;
mod check;
mod cli;
mod cluster;
mod crds;
mod drain;
mod explain;
mod failure;
mod load;
mod ports;
mod print;
mod quarantine;
mod render;
mod run;
mod source;
mod state;
mod status;
mod unpack;
mod version;
mod wasm;

use std::{
    panic,
    process::{self, ExitCode},
};

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
    print::{Style, Tone},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The answer of a command that could tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Exit code 0.
    Yes,
    /// Exit code 1.
    No,
}

fn main() -> ExitCode {
    // A task that ends by a panic must not leave the others serving half a controller.
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        process::abort();
    }));
    let cli = Cli::parse();
    let style = Style::new(cli.output, cli.color);
    match answer(cli.command, &style) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) => {
            print::note(&format!("{} {failure}", style.paint_err(Tone::Bad, "portcullis:")));
            ExitCode::from(2)
        }
    }
}

fn answer(command: Command, style: &Style) -> Result<Answer, Failure> {
    match command {
        Command::Run(args) => run::run(&args, style),
        Command::Check(args) => check::check(&args, style),
        Command::Render(args) => render::render(&args, style),
        Command::Test(args) => cases::test(&args, style),
        Command::Explain(args) => explain::explain(&args, style),
        Command::Status(args) => status::status(&args, style),
        Command::Crds => crds::crds(style),
        Command::Version(args) => version::version(&args, style),
        Command::Drain(args) => drain::drain(&args),
        Command::Unpack(args) => unpack::unpack(&args),
        Command::BecomeEnvoy(args) => Err(run::become_envoy(&args)),
    }
}
