/* doctor.h - `ironclaw doctor`: what each wall needs from this host, and what is missing. */
#pragma once
int doctor_main(int argc, char **argv);
