// SPDX-License-Identifier: BSD-3-Clause
// flight_data: what a flight brings, and what becomes of it; between flight.c and flight_data.c.
#pragma once
#include "cache/flight.h"

// flight_data.c: fills f->request; with the entry's lock held.
void flight_request(struct flight *f, int64_t deadline_ns);
// flight.c: it has ended, with the entry's lock held, in its request's `done`; then, without, frees it
// and lets others fly.
void flight_end(struct flight *f, bool is_good);
void flight_landed(struct flight *f);
