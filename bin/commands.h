/*
 * commands.h
 *		The commands of pems-credential.
 *
 * Each takes its own command line (argv[0] is the command's name), says by itself what is wrong,
 * and returns the exit status: 0 done, 1 failed, 2 wrong usage.
 */
#ifndef PEMS_COMMANDS_H
#define PEMS_COMMANDS_H

extern int keygen(int argc, char **argv);
extern int set_credential(int argc, char **argv);
extern int list_credentials(int argc, char **argv);
extern int check_credentials(int argc, char **argv);
extern int rotate_keys(int argc, char **argv);

#endif /* PEMS_COMMANDS_H */
