# A fake PEMS as a process of this test, and its control calls.
#
# The environment variable MOCK_PEMS names the program.  It ends with this process, whatever
# happens to it: it watches its parent, and what still runs in END is killed there.
package PemsSync::FakePems;

use strict;
use warnings;

use Carp qw(croak);
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use POSIX ();

my %running;    # pid => 1

END
{
    my $status = $?;
    kill 'KILL', keys %running;
    waitpid $_, 0 for keys %running;
    $? = $status;
}

my $json = JSON::PP->new->canonical->allow_nonref->utf8;

# new(log => FILE, port => N, options => [...], tls => {...}): starts one without records.  The log file is
# appended to.  tls: cert and key, files; priorities of GnuTLS if not the usual ones.
sub new
{
    my ($class, %options) = @_;
    my $program = $ENV{MOCK_PEMS} or die "MOCK_PEMS does not name the program\n";
    my $self    = bless { log_file => $options{log}, options => [ @{ $options{options} // [] } ], scheme => 'http' }, $class;
    if (my $tls = $options{tls})
    {
        $self->{scheme} = 'https';
        push @{ $self->{options} }, map { ("--tls-$_", $tls->{$_}) } sort keys %$tls;
    }
    $self->_start($program, $options{port} // 0);
    return $self;
}

sub _start
{
    my ($self, $program, $port) = @_;

    pipe my $out, my $in or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if ($pid == 0)
    {
        open STDOUT, '>&', $in or POSIX::_exit(127);
        exec $program, $port, '-', '--die-with-parent', '--log', $self->{log_file}, @{ $self->{options} }
          or POSIX::_exit(127);
    }
    close $in;
    $running{$pid} = 1;
    my $line = readline $out;
    croak "the fake PEMS did not start" if !defined $line || $line !~ /ready on \S+:(\d+)$/;
    @$self{qw(pid port out http)} = ($pid, $1, $out, HTTP::Tiny->new(timeout => 30, keep_alive => 1));
    return;
}

sub port { return $_[0]{port} }
sub url  { return $_[0]->endpoint . '/api' }
sub log_file { return $_[0]{log_file} }

# The endpoint as pems_sync names it.
sub endpoint { return "$_[0]{scheme}://127.0.0.1:$_[0]{port}" }

# End the process, so that its port refuses connections.
sub stop
{
    my ($self) = @_;
    return if !$self->{pid};
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    delete $running{ $self->{pid} };
    delete $self->{pid};
    return;
}

# The body of the answer to a control call; dies unless it succeeds.
sub _answer
{
    my ($self, $method, $call, $content) = @_;
    my $url = $self->endpoint . "/_control/$call";
    return $self->_answer_over_tls($method, $url, $content) if $self->{scheme} eq 'https';

    my %request = defined $content ? (content => $content) : ();
    my $answer = $self->{http}->request($method, $url, \%request);
    croak "$method $call: $answer->{status} $answer->{content}" if !$answer->{success};
    return $answer->{content};
}

# Perl itself knows no TLS.  Whose certificate it is does not matter here.
sub _answer_over_tls
{
    my ($self, $method, $url, $content) = @_;
    my @command = ('curl', '-sSk', '--fail-with-body', '--noproxy', '*', '--max-time', 30, '-X', $method);
    my ($in, $out, $err) = ($content // '', '', '');
    push @command, '--data-binary', '@-' if defined $content;
    IPC::Run::run([ @command, $url ], '<', \$in, '>', \$out, '2>', \$err) or croak "$method $url: $err $out";
    return $out;
}

# One control call; dies unless it succeeds.
sub control
{
    my ($self, $method, $call, $content) = @_;
    return $json->decode($self->_answer($method, $call, defined $content ? $json->encode($content) : undef));
}

sub add_organization
{
    my ($self, $code, $token) = @_;
    return $self->control('POST', 'organizations', { code => $code, token => $token });
}

# Add fault rules, each a hash; returns their ids.
sub fault
{
    my ($self, @faults) = @_;
    return @{ $self->control('POST', 'faults', \@faults)->{ids} };
}

sub clear_faults
{
    my ($self, $id) = @_;
    return $self->control('DELETE', 'faults' . (defined $id ? "?id=$id" : ''));
}

# How often a fault has fired; dies where something that it was to do could not be done.
sub fired
{
    my ($self, $id) = @_;
    my ($fault) = grep { $_->{id} eq $id } @{ $self->control('GET', 'faults')->{faults} };
    croak "fault $id: $fault->{problem}" if $fault && defined $fault->{problem};
    return $fault ? $fault->{fired} : 0;
}

# Edit records as somebody who works in PEMS; returns the new versions.
sub edit
{
    my ($self, @edits) = @_;
    return @{ $self->control('POST', 'records', [ map { { by => 'pems.user@example.com', %$_ } } @edits ])->{versions} };
}

# Records go without a tombstone.
sub forget
{
    my ($self, $code, @pfa_ids) = @_;
    return $self->edit(map { { organizationCode => $code, pfaId => $_, forget => JSON::PP::true } } @pfa_ids);
}

# ---------- PEMS's times ----------

# The time by the fake's own clock, whatever skew_clock() says: for restore(to => ...).
sub now { return $_[0]->control('GET', 'clock')->{now} }

# From now on PEMS's clock (updatedAt, the header Date) goes so many seconds ahead of ours.
sub skew_clock
{
    my ($self, $seconds) = @_;
    return $self->control('POST', 'clock', { skewSeconds => $seconds });
}

# Set updatedAt of these records, or of all; versions and data stay.  Returns how many.
sub set_times
{
    my ($self, $code, $updated_at, @pfa_ids) = @_;
    my %which = @pfa_ids ? (pfaIds => \@pfa_ids) : ();
    return $self->control('POST', 'times', { organizationCode => $code, updatedAt => $updated_at, %which })->{changed};
}

# PEMS is restored from a backup: versionsBack => N, secondsBack => N, or to => TIME (of now()); pfaIds => [...] for
# some records only.  Returns how many records are others now.
sub restore
{
    my ($self, $code, %how) = @_;
    return $self->control('POST', 'restore', { organizationCode => $code, %how })->{restored};
}

# ---------- faults of reads and listings; each returns the id of its fault ----------
# Further members of a fault (page, fromPage, after, count ...) come behind.

# Reads and listings show records as they were: versions => N or seconds => N ago.
sub lag
{
    my ($self, $code, $unit, $number, %more) = @_;
    my ($id) = $self->fault({ organizationCode => $code, 'lag' . ucfirst $unit => $number, %more });
    return $id;
}

# The cursor of this page, and those of later ones, are refused.
sub refuse_cursors
{
    my ($self, $code, $from_page, $status, %more) = @_;
    my ($id) = $self->fault(
        { organizationCode => $code, call => 'list', fromPage => $from_page, status => $status, error => 'CURSOR_EXPIRED', %more });
    return $id;
}

# The listing ends with this page, as if nothing came behind it.
sub truncate_listing
{
    my ($self, $code, $page, %more) = @_;
    my ($id) = $self->fault({ organizationCode => $code, page => $page, nextCursor => undef, %more });
    return $id;
}

# The listing goes from one page back to an earlier one (to itself, if that is the same), again and again.
sub turn_listing
{
    my ($self, $code, $page, $back_to, %more) = @_;
    my ($id) = $self->fault({ organizationCode => $code, page => $page, backToPage => $back_to, %more });
    return $id;
}

# In listings other texts stand in place of records: PFAID => TEXT, '' leaves the record out.  "%FF" is a byte; a
# percent sign itself is "%25".
sub replace_records
{
    my ($self, $code, $texts, %more) = @_;
    my ($id) = $self->fault({ organizationCode => $code, recordTexts => $texts, %more });
    return $id;
}

# A good record as replace_records() takes it, with other members.  A reference to a text stands as it is:
# raw_record(pfaId => 'PFA-1', version => \'1e999999', data => \'{"text":"\ud800"}'); undef: no such member.
sub raw_record
{
    my (%members) = @_;
    my %all = (organizationCode => 'RIO', version => 1, updatedAt => '2025-01-01T00:00:00Z', deleted => JSON::PP::false, data => {}, %members);
    my @keys = grep { !exists $members{$_} || defined $members{$_} } sort keys %all;
    return '{' . join(',', map { "\"$_\":" . (ref $all{$_} eq 'SCALAR' ? ${ $all{$_} } : $json->encode($all{$_}) =~ s/%/%25/gr) } @keys) . '}';
}

# ---------- what it has ----------

# One record as PEMS has it: {version, deleted, data ...}, or undef.
sub record
{
    my ($self, $code, $pfa_id) = @_;
    my $query = $self->{http}->www_form_urlencode({ organizationCode => $code, pfaId => $pfa_id });
    return $self->control('GET', "records?$query")->{records}[0];
}

sub records { return $_[0]->control('GET', 'records')->{records} }

# All records into a file, as they come: numbers keep their digits.
sub dump
{
    my ($self, $file) = @_;
    open my $out, '>', $file or croak "$file: $!";
    print {$out} $self->_answer('GET', 'records');
    close $out or croak "$file: $!";
    return;
}

sub stats   { return $_[0]->control('GET', 'stats') }

# Log entries of one kind (request, change, any), oldest first, that match all members of %wanted.
sub log_entries
{
    my ($self, $kind, %wanted) = @_;
    my $since   = delete $wanted{since} // 0;
    my $entries = $self->control('GET', "log?kind=$kind&since=$since")->{entries};
    for my $member (keys %wanted)
    {
        @$entries = grep { defined $_->{$member} && $_->{$member} eq $wanted{$member} } @$entries;
    }
    return @$entries;
}

sub requests { my $self = shift; return $self->log_entries('request', @_) }
sub changes  { my $self = shift; return $self->log_entries('change',  @_) }

# Requests for pages: each with updatedSince, cursor, limit, page, records (how many were answered), nextCursor.
sub listings { my $self = shift; return $self->requests(call => 'list', @_) }

# Sequence number of the newest entry of the log: what comes later has a higher one.
sub mark { return $_[0]->control('GET', 'log?limit=0')->{lastSeq} }

1;
