//! The command line of Quorate. Data goes to standard output, everything else to standard error; the exit code tells
//! what happened (see [`cli::exit`]).

mod cli;
mod telemetry;

use cli::{args, exit};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match cli::main(arguments) {
        Ok(code) => code,
        Err(error) => {
            cli::complain(&format!("error: {error:#}"));
            ExitCode::from(exit::USAGE)
        }
    }
}
