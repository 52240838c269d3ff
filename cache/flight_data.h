// SPDX-License-Identifier: BSD-3-Clause
// flight_data: what a flight brings, and what becomes of it; between flight.c and flight_data.c.
#pragma once
#include "cache/flight.h"

// flight_data.c: fills f->request; with the entry's lock held.
void flight_request(struct flight *f, int64_t deadline_ns);
// flight.c: its request is over: others fly in its place. It has ended, with the entry's lock held; then, without, frees it.
void flight_is_over(struct flight *f);
void flight_end(struct flight *f, bool is_good);
void flight_landed(struct flight *f);
// flight_data.c, for the thread that writes: brings the run to the disk, and ends its flight if that was the last of it.
void flight_store_run(struct storing_run *run);
