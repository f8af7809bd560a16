# pems_write_sync() by four clients at once, with lists that overlap, while others commit and discard: none of them ends in a
# deadlock.  What it leaves alone: test/specs/write_sync_claim.spec; what it reads: test/sql/plans.sql.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PemsSync::Test->new('write_sync', settings => { enabled => 'off' }, conf => "deadlock_timeout = '100ms'\n");
$t->add_organization('RIO');
my @records = $t->load_many('RIO', 'PFA-', 60);
my @edits   = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @records);
$t->commit('RIO', \@edits);

my $script = sub {
    my ($name, $text) = @_;
    my $file = $t->directory . "/$name.pgbench";
    append_to_file($file, "SET client_min_messages = error;\n$text");
    return $file;
};
# each list is another part of the drafts, in another order, with another priority
my $part = "ARRAY(SELECT format('m-rio-%s', lpad((1 + (i * :step + :from) % 60)::text, 6, '0')) FROM generate_series(1, 40) i)";
my @scripts = (
    $script->('list', "\\set step random(1, 59)\n\\set from random(0, 59)\n\\set n random(1, 3)\n"
          . "SELECT pems_write_sync('org-rio', $part, (ARRAY['high', 'normal', 'low'])[:n]);\n"),
    $script->('all', "\\set n random(1, 3)\nSELECT pems_write_sync('org-rio', NULL, (ARRAY['high', 'normal', 'low'])[:n]);\n"));
my ($out, $err) = run_command([ 'pgbench', '-n', '-c', '4', '-j', '4', '-t', '150', (map { ('-f', $_) } @scripts), '-h', $t->node->host, '-p', $t->node->port, 'postgres' ]);
like($out, qr{number of transactions actually processed: 600/600}, 'all calls of four clients have succeeded') || diag($out, $err);
is($t->sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"), '0', 'none of them ended in a deadlock');
is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'pending' AND waits_for IS NULL AND scheduled_at <= clock_timestamp()"), '60', 'and all items are due');

$t->set(enabled => 'on');
ok($t->wait_for("SELECT count(*) = 60 FROM pfa_modification WHERE sync_status = 'synced'"), 'they are sent');
$t->finish;
