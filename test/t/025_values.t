# Values and where they stand, as the worker compares them: the day of a date, and keys that look like paths.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('values', settings => { rate_limit => 0, poll_interval => '1s' });
$t->add_organization('RIO');
my $fake = $t->fake;
my $json = JSON::PP->new->canonical;
$t->sql(q{INSERT INTO pems_field (name, label, type) VALUES ('deliveryDate', 'Delivery date', 'date'), ('custom', 'Custom', 'json')});

sub in_pems { my ($pfa_id, %changes) = @_; return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => \%changes }) }
sub puts { my ($pfa_id) = @_; return grep { $_->{method} eq 'PUT' && $_->{status} == 200 } $fake->requests(organizationCode => 'RIO', pfaId => $pfa_id) }

# A record with these fields in PEMS and in the mirror, changed in PEMS afterwards; the edit is made on what the mirror has.
sub edit_after
{
    my ($pfa_id, $seen, $meanwhile, $delta) = @_;
    $t->load('RIO', $pfa_id);
    in_pems($pfa_id, %$seen);
    $t->mirror_from_pems('RIO', $pfa_id);
    in_pems($pfa_id, %$meanwhile);
    return $t->commit_edit('RIO', $pfa_id, $delta);
}

subtest 'the day that a colleague has written is not overwritten, whatever its zone' => sub {
    # in UTC this is 2025-07-01, the day that the user saw
    my $theirs = '2025-07-02T00:00:00+05:30';
    my $id = edit_after('DAY-1', { deliveryDate => '2025-07-01' }, { deliveryDate => $theirs }, { deliveryDate => '2025-07-05' });
    ok($t->wait_status($id, 'conflict'), 'in conflict');
    $t->sides_are($t->conflict($id), 'base, local, remote', deliveryDate => [ '2025-07-01', '2025-07-05', $theirs ]);
    is($fake->record('RIO', 'DAY-1')->{data}{deliveryDate}, $theirs, 'PEMS keeps its day');
    is(scalar puts('DAY-1'), 0, 'nothing was written');
    $t->resolve($t->conflict($id)->{id}, 'use_pems');
};

subtest 'the same day, written in another way, is no conflict' => sub {
    # in UTC this is 2025-06-30
    my $id = edit_after('DAY-2', { deliveryDate => '2025-07-01' }, { deliveryDate => '2025-07-01T00:00:00+02:00' }, { deliveryDate => '2025-07-05' });
    ok($t->wait_status($id, 'synced'), 'synced');
    is($fake->record('RIO', 'DAY-2')->{data}{deliveryDate}, '2025-07-05', 'PEMS has our day');

    $id = edit_after('DAY-3', { deliveryDate => '2025-07-01' }, { deliveryDate => '2025-07-05T23:30:00-04:00' }, { deliveryDate => '2025-07-05' });
    ok($t->wait_status($id, 'synced'), 'PEMS has our day already');
    is(scalar puts('DAY-3'), 0, 'and it is not written again');
};

subtest 'a key with a dot is another place than a key below a key' => sub {
    my $id = edit_after('KEY-1', { custom => { 'x.y' => 1, x => { y => 1 } } }, { custom => { 'x.y' => 2, x => { y => 2 } } }, { custom => { 'x.y' => 3 } });
    ok($t->wait_status($id, 'conflict'), 'in conflict');
    my $conflict = $t->conflict($id);
    is_deeply($conflict->{conflict_fields}, ['custom.x\.y'], 'its field');
    like($t->sql_error(PemsSync::Test::resolve_statement($conflict->{id}, 'merge', merged_data => { custom => { x => { y => 4 } } })), qr/does not decide every conflicting field/,
        'the other place does not decide it');
    $t->resolve($conflict->{id}, 'merge', merged_data => { custom => { 'x.y' => 4 } });
    ok($t->wait_status($id, 'synced'), 'resolved and synced');
    is_deeply($fake->record('RIO', 'KEY-1')->{data}{custom}, { 'x.y' => 4, x => { y => 2 } }, 'PEMS has what was decided, and its own value beside it');
    $t->mirror_is_pems('RIO', 'KEY-1');
};

$t->finish;
