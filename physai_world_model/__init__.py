"""L2: what happens next if we do this? An ensemble of learned dynamics models imagines every chunk."""
