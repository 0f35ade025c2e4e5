// The subcommands of `govern` about what is on record of models and of a service.
#pragma once

#include "commands.h"

namespace qw::app {

void add_govern_dossier(CLI::App& govern, Outcome& outcome);
void add_govern_incident(CLI::App& govern, Outcome& outcome);
void add_govern_ledger(CLI::App& govern, Outcome& outcome);

}  // namespace qw::app
