"""The sentences that ask to put something somewhere, in the notation of `grammar.Grammar`; the words are those of english.py.

A task's own rules widen or replace these (`physai_base.phrases`).
"""

from __future__ import annotations

GRAMMAR = """
sentence = [<opening>] (<command> | <reason> [so | and] [NAME] {<polite>} <command> | <statement>)
    {<ending>}
ordered = [<opening>] <order> {<ending>}
opening = {<greeting>} [and | also | so [like]] [now | then | next | SOON] {<polite> | <greeting>} [for
    (me | us)]
reason = to (free up | free | clear | tidy | tidy up) (the | my | our) FLOOR | to make (room | space)
    [on the FLOOR] | i need (room | space) [on the FLOOR] | i (can't | cannot) reach [it | that high |
    up there] | i am (too short | busy | tired | in a hurry) | i have [got] my hands full | my (hands |
    arms) are full | my (back | arm | hand | knee | shoulder) hurts | i have [got] (guests | visitors)
    [coming] | so [that] (i | we) can (reach | get | see | find) it | it is in (my | the | our) way |
    (it is | this place is) (messy | untidy | a mess) [in here | here] | the FLOOR is (full | too full |
    a mess | messy | untidy) | the (kids | children | baby | cat | dog) (keep | keeps | might | may |
    could | will | can) (grab | grabbing | reach | reaching | reach for | reaching for | knock |
    knocking | get | getting) it [over] | (i am | this is | my name is) UNKNOWN !adjective | UNKNOWN
    !adjective here
greeting = (sorry [to (bother | trouble | disturb) you] | excuse me) but | (lets | let us) do (it |
    this) | here is what (i | we) (want | need | would like) you to do | ideally | (hey | hi | hello)
    [there] | okay | ok | alright | all right | right | well | yes | yeah | yep | sure | great | good
    (morning | evening | afternoon | day) | excuse me | sorry [to (bother | trouble | disturb) you] |
    listen [up] | look | NAME | (thanks | thank you | many thanks) [in advance] | now then | right then
    | good job | well done | nice | perfect | come on | oi | attention | next up | then | let me think |
    one more thing | <when_able> | <if_you> | here is (what i (want | need) | your [next | new] (task |
    job)) | for your next (task | trick | job) | new (task | job | command) | first of all !order |
    first !order | finally !order | careful [now | with it] | [i (have [got] | need)] [a | one | one
    more | just one] [quick | small | little | simple | tiny] (thing | favor | request) | i have [got] a
    [quick | small | little | simple | new] (task | job) for you | yo NAME !spelling | heads up | quick
    one | i am asking [you] nicely | (can | could | may) i ask (you [for] | for) (a [quick | small |
    little] favor) | (can | could | may) i ask a [quick | small | little] favor | (can | could) you do
    (me | us) a [quick | small | little] favor | [please] (do | perform | execute | carry out) (this |
    the following [task]) [for (me | us)] | execute | go | ready | [okay | ok | right] lets go | lets
    get going | lets start | go on | pick and place | you are up | yo !spelling | now | next one | come
    here and | your turn | it is your turn | here is the (thing | deal) | here is a [new | little |
    small] (task | job) [for you] | i have (the following | a following) (task | job) for you | i have a
    (task | job | little job) | easy now | steady | steady now | CARE now | anyway | actually |
    basically
polite = please | maybe !suggestion | PACE !pace and CARE | CARE and PACE !pace | ideally | if you
    (could | would | can | please) | SOON_FIRST | of course | kindly | just | simply | again | go ahead
    and | go on and | go and | hurry up and | be careful and | be careful but | CARE | PACE !pace | if
    possible | actually | basically | anyway | seriously | pretty please
when_able = when (convenient | possible | it is convenient | it suits you | you are able) | if you are
    (free | able [to] | ready) | (when | whenever | once | as soon as) you (can | are (able [to] | ready
    | free | done !order) | have [got] (time | a (moment | minute | second | sec | chance | mo)) | get
    (time | a (moment | minute | second | sec | chance | mo) | the chance)) | at your [earliest | own]
    convenience | if you have [got] (time | a (moment | minute | second | sec | chance | mo | spare
    moment)) | if you get a (moment | minute | second | chance)
if_you = if you (please | can | could | would | will | would please | would be so kind | would not mind
    | do not mind | don't mind | wouldn't mind) | if possible | if (it | that) is (okay | ok | alright |
    all right | possible | fine) [with you] | if it (is not | isn't) too much trouble
ending = please | shall we | first !order | it lives there | when you (like | want) !suggestion | for
    (storage | safekeeping) | so [that] it is (safe | out of the way) | ty | kindly | CARE | SOON | PACE
    !pace | NAME | for (me | us | now) | <when_able> | <if_you> | (would | will | could | can) you
    [please | kindly] | would you mind | thanks [a lot | so much | a million | a bunch | in advance |
    again] | thank you [so much | very much | kindly | in advance | ever so much] | many thanks | cheers
    | ta | much appreciated | appreciate it | appreciated | i [would] [really] appreciate (it | that) |
    i would be [very | so] grateful | (that | it) (would | will) be [really | very | so | just] GOOD |
    that is (all | it | everything) [for now | from me] | that will be all | (because | as | since) it
    belongs there | it belongs there | it goes there | [because] that is where it (belongs | goes |
    should be | should go | lives) | this is where it (belongs | goes) | [and] (be careful | be gentle)
    [with it] | [and] take care | [and] take your time | and (thank you | thanks) | with (your | the)
    (gripper | hand | arm | robot arm) | using (your | the) (gripper | hand | arm | robot arm) | again |
    too | as well | okay | ok | alright | yeah | now then | over there | up there | no rush | no hurry |
    as (usual | always | before) | do it now | do so now | but be careful [with it] | and be quick
    [about it] | and that is (it | all) | and (you | we) are (done | good | all set) | i mean | and make
    sure it (stands | stands upright | is stable | is upright | is safe) | <mind_it> | then !order |
    [and] [then] (put | set | place | leave) it [down] there | [and] [then] (put | set) it down | and
    let (go [of it] | it go) | and (release it | let it (stay | stand | rest) there) | so [that] (i |
    we) can (reach | find | see) it [easily] | out of the way | (it | that one) is in (the | my) way |
    go | this time | pretty please | i beg you | (there | that) is a good robot | good robot | if you
    would | go for it | chop | chop chop | come on | [please] do it | so {<polite>} (put | set | place |
    move) it there | (it is | it is very | careful it is | because it is) (fragile | delicate | precious
    | breakable | expensive | my favorite) | off you go | and (thank you | thanks) (a lot | so much |
    very much | a bunch | a million) | where it (belongs | goes | is safe) | easy does it | in one go |
    got it | understood | yes | [so] {<polite>} (put | set | place | move) it there | [so] please (move
    | put) it | then please
mind_it = [and | but] [please] (do not | don't | dont | try not to | be careful not to | make sure not
    to | make sure you (do not | don't | dont)) (drop | spill | break | damage | tip | knock over | tip
    over | knock | bump) (it | anything | any) [over]
command = <order> | mind {<polite>} <doing> | feel free to !permission <order> | (try | proceed with |
    continue with | get on with) <doing> | (can | could | may) i {<polite>} ask that you <order> | (can
    | could | would | will) you {<polite>} help [me | us] [out] by <doing> | (it | that) would help [me
    | us] [out] [a lot] if you (could | would | can) {<polite>} <order> | (it | that) would help [me |
    us] [out] [a lot] if you (put | moved | placed | set | brought) <target> <way> <place_at> | would it
    be (too much trouble | too much to ask | a bother) [for you] to {<polite>} <order> | do !suggestion
    [please] <order> | go <order> | see (if | whether) you can <order> | see about <doing> | see that
    <target> ((goes | gets) <way> <place_to> | (goes | gets | (is | gets) <done>) !suggestion <way>
    <place_at>) | (can | could | will | would | might !suggestion) (you | (someone | somebody | anyone |
    anybody | one of you) !suggestion) [possibly | maybe | also | at all | perhaps] {<polite>} <order> |
    (can | could) you {<polite>} <favor> and {<polite>} <order> | (can | could | should !suggestion) we
    !suggestion {<polite>} <order> | (can | could | will | would) you (try to | try and | manage to |
    help me [to] | help us [to]) {<polite>} <order> | (can | could | will | would) you {<polite>} be (so
    kind as to | so good as to | kind enough to | good enough to | nice enough to | able to | willing to
    | a dear and | so kind and) {<polite>} <order> | you (will | may | might) want to !suggestion
    {<polite>} <order> | would you (like to !suggestion | care to | mind and) {<polite>} <order> |
    (would | do) you mind {<polite>} <doing> | (may | might | can | could) i (ask | trouble | get |
    bother | request | have) you [to] {<polite>} <order> | i (request | ask | insist | demand | wish
    !suggestion) [that] you {<polite>} <order> | it is (your | our) [next] (task | job | turn) to
    <order> | i (would [like to | love to] | will !suggestion) ask you to {<polite>} <order> | i [am]
    (asking | ask | request | requesting | beg) you to {<polite>} <order> | (do you (think | reckon |
    suppose !suggestion) | is there any chance | any chance | is there a chance) [that] you (could | can
    | might !suggestion) {<polite>} <order> | any chance of <doing> | (is it possible | would it be
    possible | is it okay | are you able | would it be okay) !suggestion [for you] to {<polite>} <order>
    | (would it be possible | is it possible) !suggestion to (have | get) <target> [<done>] <place_at> |
    <favor> [and] {<polite>} <order> | be so (kind | good) as to {<polite>} <order> | be (kind | good |
    nice) enough to <order> | i (was | am) [just] hoping [that] (you (could | would | can | might)
    {<polite>} <order> | to have <target> [<done>] <place_at>) | i hope you (can | could | will)
    {<polite>} <order> | i (was | am) [just] wondering (if | whether) you (could | would | can | might)
    [be able to | be so kind as to] {<polite>} <order> | i (wonder | wondered) (if | whether) you (could
    | would) [be able to | be so kind as to | possibly] {<polite>} <order> | i (am going to | will | am
    gonna) need you to {<polite>} <order> | (<wanting> | (i | we) would love) [for] you to {<polite>}
    <order> | i think [that] (<wanting> you to {<polite>} <order> | you (should | need to | have to |
    must) {<polite>} <order>) | <wanting> to have you <order> | (i | we) would [really | very much |
    greatly] (appreciate it | love it | like it | be [very | so | really] (glad | happy | grateful |
    pleased | delighted | thankful)) if you (could | would | can) {<polite>} <order> | (it | that)
    (would | will) be [really | very | so | just] GOOD [of you] if you (could | would | can) {<polite>}
    <order> | (it | that) would be [really | very | so] GOOD if you (put | moved | placed | set |
    brought | lifted | stored) <target> <way> <place_at> | it would be [really | very | so] GOOD of you
    to <order> | you (should | must | need to | have to | ought to | are to | are supposed to | are
    going to !suggestion | have got to | got to | shall | will !suggestion | can !permission | may
    !permission | could !suggestion | might !suggestion) {<polite>} <order> | (you place | you move)
    !suggestion <target> <way> <place_at> | you (PUT | MOVE) !suggestion <target> <way> <place_at> (ok |
    okay | alright | please | will you | would you) | (lets | let us !suggestion) {<polite>} <order> |
    (lets | let us !suggestion) (have | get) <target> [<done>] <place_at> | (try to | try and | make
    sure to | make sure you | be sure to | be sure you | remember to | try your best to | do your best
    to | proceed to | please proceed to | go and | go ahead and | ensure you) {<polite>} <order> |
    <task_is> to {<polite>} <order> | <task_is> {<polite>} <order> | <task_is> <doing> | (it is | is it
    !suggestion) time [for you] to {<polite>} <order> | time to {<polite>} <order> | we !wish (need to |
    have to | [have] got to | ought to | are supposed to | should | must | can | could) {<polite>}
    <order> | (i | we) (want | need | would like | would love | am going | are going) to !wish
    {<polite>} <order> | (how | what) about !suggestion (<doing> | you <order> | we <order> | <target>
    <place_at>) | shall we !suggestion <order> | (use | using | with) (your | the) (gripper | hand | arm
    | robot arm | robotic arm | fingers) [to | and] <order> | move your (arm | gripper | hand) and
    <order> | (start | begin) <doing> !order | (give | lend) (me | us) a hand (<doing> | and <order>) |
    <doing> would be [really | very | so] GOOD | <doing> is (your [next] (task | job) | what (i | we)
    (want | need)) | (start | begin) by !order (<doing> | TAKING <target> [<source>] [<joint>]
    <putting_it>) | <pleased> <if_done> | would it be (okay | ok | alright | all right | possible)
    !suggestion <if_done> | i would [really] appreciate you <doing> | <target> (can | could | will |
    would) you {<polite>} <putting_it> | <target> <wanting> you to {<polite>} <putting_it> | <place_on>
    (can | could | will | would) you {<polite>} (PUT | MOVE !preposition) <target> | <place_on>
    <wanting> you to {<polite>} (PUT | MOVE !preposition) <target> | (may | might | can | could) i
    {<polite>} request [that] you <order> | all i am asking [for] is (that you <order> | for you to
    <order>) | i (order | instruct | command | direct | urge | would urge) you to {<polite>} <order> |
    (why don't you | why not | don't forget to | dont forget to | do not forget to) !suggestion <order>
    | care to !suggestion <order> | fancy !suggestion <doing> | (can | could) you like <order> | would
    it be possible [for you] to {<polite>} <order> | first <taking> (then | and | and then) {<polite>}
    <putting_it> | (start | begin) by TAKING <target> [<source>] <joint> {<polite>} <putting_it> | (can
    | could | will | would) you {<polite>} help [me | us] out and <order> | help [me | us] [out] by
    <doing> | (can | could | will | would) you help [me | us] with <doing> | help [me | us] with <doing>
    | [can you | could you | please] assist [me | us] (in | with) <doing> | the (plan | idea | aim |
    intention) is !suggestion (to <order> | <doing>) | i (suggest | propose | recommend | advise)
    !suggestion ([that] you <order> | <doing>) | (it is (better | best) to | best | better | you would
    better | you had better | you better | we had better) !suggestion <order> | i am [just] hoping you
    will {<polite>} <order> | (please | kindly) (to | you) {<polite>} <order> | <wanting> that (you
    {<polite>} <order> | <target> (goes | gets | is <done>) <way> <place_at>) | [do you] want to
    !suggestion <order> | <place> is (empty | free) [so | and] {<polite>} (put | place | set | move)
    <target> (on it | there) | there is (room | space) <place_on> [so | and] {<polite>} (put | place |
    set | move) <target> (on it | there) | lets go with !suggestion <fragment> | make (it | that)
    !suggestion <fragment> | <next> !fragment <fragment> | do !fragment <wished> {<polite> | SOON}
    <carried> <place> | do !fragment <fragment> | (how | what) about (you <order> | <doing>) please |
    (could | can | would | will) you {<polite>} to {<polite>} <order> | (i | we) (want | need | would
    like | would love) you {<polite>} <order> | it is (necessary | required | needed | important)
    !suggestion (to <order> | that you <order> | that <target> (goes | is <done> | be <done>)
    <place_at>) | i would like to request that you <order> | (can | could | would | will) you {<polite>}
    <favor> [and] {<polite>} <order> | you would (do | be doing) (me | us) a [big | huge | great] favor
    (by <doing> | <if_done>) | (can | could | will | would) you do !fragment <fragment> | (how | what)
    about you <order> now
next = [the | your] next [one | up | THING | thing | item | order | request] is
favor = do (me | us) a [big | huge | little | small | quick] favor | do (me | us) the favor | be an
    angel | be a [good | real | proper | absolute] (lad | chap | gem | robot | dear | darling | star |
    love | pal | sweetheart | good robot | legend | sport) | be so (kind | good | nice) | be nice | be
    good
task_is = (task | job) for you | (task | job | mission | instruction | command | goal | order | request
    | assignment) [one | number one] | step (one | 1) | the (task | job) is simple | (your | the | my |
    our | this) [next | new | current | only | first !order] (task | job | goal | mission | assignment |
    order | instruction | command | request | objective | aim | work | step) [for (now | you)] [is | now
    is | here is | would be] | (next | new | current) (task | job | step | goal | command | order) [is]
    | (task | job | command | order) is | what (i | we) (want | need | would like) [you to do [now |
    next]] is [for you] | what you (need to | should | have to | must | are to) do is | all you (need to
    | have to) do is | all i (want | need | ask) is [for you] | today 's (task | job | goal) [is] | i
    have [got] a [quick | small | little | simple | new] (task | job) for you | one [more] (task | job |
    thing) for you
wanting = (i | we) [really | just | now | simply] (am wanting | are wanting | would really like | really
    would like | would just like | want | need | should like | would like | would prefer | wish | would
    want | require | would need) | i (am going to | will | am gonna) need !suggestion | need | want |
    would like | (gonna | going to) need
pleased = (it | that) would be [really | very | so | just] GOOD [of you | for me] | (it | that) would
    (be [really | very | so | much | greatly] appreciated | make (me | us) [very | so | really] (happy |
    glad)) | you would make (me | us) [very | so | really] (happy | glad) | (i | we) (would | should)
    [really | very much | greatly] (appreciate it | love it | like it | be [very | so | really] (obliged
    | glad | happy | grateful | pleased | delighted | thankful))
if_done = if (you (could | would | can) {<polite>} <order> | you {<polite>} (put | moved | placed | set
    | brought | lifted | stored | got | took | carried) <target> <way> <place_at> | <target> ((was |
    were | could be | would be) [<done>] | went | ended up | stood | sat | got | (could | would) (go |
    get | end up)) <way> <place_at>)
order = PUT it <way> <place_on> <target> | get <target> (up | down | back | over) <gotten> <place> | get
    <thing> (up | down | back | over) <standing> <place> | MOVE <target> <source> and <carried> <place>
    | PUT <back> <target> <back> (where it belongs | in its place) <place_on> | (tidy | clear) (up |
    away) <target> (<place_to> | !preposition <place_on>) | put up <target> <place_on> | (put | store |
    stow | stash) away <target> <way> <place_at> | (check | verify) !suggestion that <target> <is_put> |
    <place_to> {<polite>} MOVE <target> [back] | reach (out | over | up | down) [and | for <target>]
    <order> | arrange for <target> to be [<done>] <place_at> | have <target> !preposition <place_on> |
    LAY <kept_back> <target> <way> <place_on> | LAY away !preposition <target> <way> <place_on> | keep
    !preposition <target> <way> <place_on> | STAY <back> <target> !preposition <way> <place_on> | store
    <target> away <place_on> | (PUT | get !preposition) <way> <place_on> <target> | <place_on>
    {<polite>} (PUT | MOVE !preposition) <target> [back] | PUT <target> (where it belongs | in its place
    | in place) <place_on> | (MOVE | place | stand | sit | return | set | put | reposition | position |
    pop) <back> <target> <way> <place_to> | MOVE <back> <target> <way> <place_on> !preposition | MOVE
    <way> <place_to> <target> | (get !preposition | have | want) <target> <done> <way> <place_at> | get
    <target> [<care_words>] MOVED [back | up | down | over] <way> <place_to> | (get | have) <target> (to
    be | (sitting | standing | resting) !preposition | sit | stand | rest) <way> <place_on> | make
    <target> (stand | sit | go | be | rest) <way> <place_at> | let <target> (stand | sit | go | be
    [<done>] | rest | live | find its place | have its place) !suggestion <way> <place_at> | (make sure
    | make certain | see to it | ensure | be sure !suggestion | make it so) [that] <target> <is_put> |
    be sure [that] <target> (goes | gets | ends up) <way> <place_at> | <taking> {[<joint>] <moving_it>}
    ([<joint>] {<polite>} <putting_it> | <joint> {<polite>} PUT <place_on>) | (MOVE <back> | remove |
    clear) <target> [<source>] [over] ([<joint>] {<polite>} <putting_that> | <joint> {<polite>} PUT
    <place_on>) | (give | find) <target> (a [new] (place | spot | home) | its place) <place_on> | there
    is <target> [and | so] {<polite>} <putting_that> | [do] you (see | know) <target> [and | so]
    {<polite>} <putting_that> | (see | look at) <target> [and | so] {<polite>} <putting_that> | <target>
    {<polite>} <putting_it> | <target> you (should | must | need to) PUT <place_on> | <wished> i (want |
    would like | need) [it] <place_at> | LAY <target> [so [that] it is | such that it is | and make sure
    it is | and make sure it (ends up | stands)] <place_on> | TAKE [up] <target> [up] [<source>] <way>
    <carried> <place> | <wanting> <target> {<polite>} <putting_it> | (LAY | move | transfer | bring |
    relocate | shift | transport | deliver) [object | item | target] <thing> [<source>] [away] [[to | at
    | on | onto] (location | destination | position | target)] [<place_det>] HEIGHT BOARD | help [me |
    us] [to] {<polite>} (LAY | MOVE) <target> <way> <place_at> | lay [down] <target> !preposition [down]
    <way> <place_on> | (send | pass | hand) <target> <way> <place_to> | (tidy | clear) <target> away
    (<place_to> | !preposition <place_on>) | (take care of | see to) <doing> | (make sure [that] you |
    make sure to | be sure to | try to | try and | remember to | take care to | see to it that you |
    proceed to | go ahead and | come and | come over and | hurry up and) {<polite>} <order> | <source>
    MOVE <target> <way> <place_to> | <source> <place_to> {<polite>} (MOVE | TAKE) <target> | MOVE (over
    | across) !preposition <target> <way> <place_to> | (clear | remove | get | take) <target> <source>
    [and] <carried> <place> | be careful with <target> and {<polite>} <putting_that> | MOVE <thing> on
    the FLOOR <way> <place_to> | there is <thing> on the FLOOR [and | so] {<polite>} <putting_that> |
    (it | that one) (goes | belongs | should go) <place_at> <target> | add <target> <way> to <place> |
    <taking> [<joint>] (MOVE | TAKE) it [up | over | across | away] <place_to> | <place> !suggestion
    (needs | should have | should hold | should get) <target> [on it] | ROUGH !manner [off] <target>
    [off] <way> <place_at> | (LAY | MOVE) <target> so [that] it (is | sits | stands | ends up | rests)
    <place_on> | (take | grab | get | grasp | pick | pick up | lift | fetch) <target> [up] [<source>]
    <joint> (leave | release | keep) (it | !fragment) <way> <place_on> | <target> you !suggestion
    {<polite>} <putting_it> | [do] you (see | know) <thing> on the FLOOR [and | so] {<polite>}
    <putting_that> | (see | look at) <thing> on the FLOOR [and | so] {<polite>} <putting_that> |
    <taking> PUT !fragment [<place_det>] HEIGHT BOARD | (take | grab | get | fetch | pick | pick up |
    lift) <target> [up] [<source>] [<joint>] place (<place_at> | [<place_det>] HEIGHT BOARD) | <thing>
    on the FLOOR {<polite>} <putting_it> | [action] (place | move | put | pick and place) [object | item
    | target] <thing> [target] (destination | location | place | position) <place> | <target> next
    {<polite>} <putting_it> | start with !order <target> [and] <putting_it> | let <target> be <done>
    <way> <place_at> | (grab | take | get | pick) !fragment <thing> [<place_det>] HEIGHT BOARD
carried = to | onto | on to | up to | up onto | over to | down to | down onto | back to
gotten = onto | on to | on !preposition
standing = on
back = {back | down | up | away}
kept_back = {back | down | up | CARE | SOON | please}
joint = and | then | and then | n !spelling | and now | and after that
taking = TAKE <target> [up] [for (me | us)] [please] [carefully | gently | in your (hand | gripper) |
    with your (hand | gripper)] [<source>] | TAKE <source> <target> | TAKE <thing> on the FLOOR |
    <source> {<polite>} TAKE <target> | go [over] to (<target> and TAKE it | <target> TAKE it | the
    FLOOR [and] TAKE <target>)
moving_it = (MOVE | TAKE) it [up | over | across | away] [carefully | gently]
putting_it = <putting_that> | PUT <place_on> !fragment
putting_that = <putting_one> (it | that one | that | this one | this) <way> <place_on> | MOVE <back> (it
    | that one | that | this one) <way> <place_to> | MOVE (it | that one) <way> <place_on> !preposition
    | (place | stand | return | set | put) (it | that one | that) <way> <place_to> | (PUT | MOVE) <back>
    <target> !generic <way> <place_at> | (put | set) (down | up) it <place_on> | it (goes | belongs |
    should go | should be | needs to go | has to go | needs to be | must go) <way> <place_at> |
    <place_on> PUT it | ROUGH !manner it [off] <way> <place_at> | make sure it (is | ends up | stands |
    sits) <place_on>
putting_one = PUT <back>
doing = PUTTING <back> <target> <way> <place_on> | (MOVING | placing | returning | setting | putting |
    positioning) <back> <target> <way> <place_to> | MOVING <target> <way> <place_on> !preposition |
    TAKING <target> [up] [<source>] [and | and then] (PUTTING <back> it <way> <place_on> | MOVING it
    <way> <place_to>) | getting <target> <done> <place_on>
done = [<care_words>] (PUT_DONE | MOVED) [back | up | down | over]
care_words = CARE
manner = {please | kindly | just | right now | right away | straight away | at once | immediately | CARE |
    PACE !pace | for (me | us)}
way = {<way_part> | over there | up there | there}
way_part = please | kindly | if you (please | would | could | will | can) | please robot | right now |
    right away | straight away | at once | immediately | up HEIGHT | up | down | back | over | across |
    straight | directly | CARE | for (me | us) | away | just | PACE !pace | <source> | all the way | you
    know | high up | way up | right up | high | somewhere | anywhere !preposition
statement = it is <wished> [that] (i | we) (want | need | would like) <place_at> | <wished> is (the one
    | what) [that] (i | we) (want | need | would like) <place_at> | i (request | am requesting | ask |
    would like to (request | ask)) [that] <target> be <done> <place_at> | (is it possible | would it be
    possible) !suggestion for <target> to <be_put> | <task_is> to (have | get) <target> [<done>]
    <place_at> | what (i | we) would like is <wished> [<done>] <place_at> | (<place> is | [<on_to>]
    <place> that is) where you [should | need to | have to | must | can !permission] (put | place | move
    | set) <target> | (it | that) would [really] help [me | us] [a lot] if <target> (was | were | could
    be | went) [<done>] <place_at> | (i | we) would [really | very much] appreciate it if <target> (was
    | were | could be | went) [<done>] <place_at> | <target> goes !fragment <place> | <target> 's [new |
    right | proper] (place | home | spot | destination) (is | should be) [<on_to>] <place> | (<place_on>
    | <place_to>) with <target> | it is <target> that (goes | belongs | <should> (be | go)) <place_at> |
    remember !suggestion [that] <target> (goes | belongs) <way> <place_at> | time for <target> to
    <be_put> | <task_is> <fragment> | i think (<wanting> <wished> [to (be | go | stand)] [<done>]
    <place_at>) | (i | we) wish for <target> to <be_put> | (<wanting> | (i | we) would love) for
    <target> to <be_put> | (i | we) would love <target> (to <be_put> | MOVED [up | down | over]
    <place_to>) | i wish <wished> (was | were) [<done>] <place_on> | <target> (goes | belongs | lives
    !suggestion) <way> <place_at> | <target> <ought> <be_put> | <target> (must | has to | has got to)
    (<go_put> | be (<done> | !suggestion [standing | sitting | resting | located]) <way> <place_at>) |
    <target> (needs | wants | requires) (PUTTING | MOVING) <way> <place_at> | (can !suggestion | could)
    <target> {<polite>} be <done> <way> <place_at> | (can | could | would | may) <target> {<polite>}
    <be_put> please | (can | could | would | may) <target> please <be_put> | (can | could | would | will
    | shall | may) !suggestion <target> {<polite>} <be_put> | (can | could | may | might) (i | we)
    {<polite>} (have | get | see | ask for | ask to have) <target> (to be [<done> | standing | sitting]
    | <done> | !preposition) <way> <place_at> | (<wanting> | (i | we) would love !preposition) [to (have
    | see !suggestion | get)] <wished> [to (be | go | stand | sit | live | end up | move | get | rest)]
    [<done> | standing | sitting] <way_wished> <place_at> | <target> is (wanted | needed | required)
    <place_at> | <target> would (look | be | fit) [really | very | so | just] !suggestion [GOOD | better
    | perfectly | well] <place_on> | i think !suggestion <target> (goes | belongs | should go | should
    be) <place_at> | what (i | we) (want | need) is <wished> [<done>] <place_at> | all i (want | need)
    is <wished> [<done>] <place_at> | (it | that) would be [really | very | so | just] GOOD if <target>
    (was | were | could be | went | ended up | stood | sat | would be | would go | got) [<done>] <way>
    <place_at> | (it | that) would be [really | very | so | just] GOOD to (have | see | get) <wished>
    [<done>] <place_at> | i would (love it | like it | be (glad | happy | grateful | pleased)) if
    <target> (was | were | could be | went | ended up | stood | would be) [<done>] <place_at> | i would
    appreciate [having | seeing] <wished> [being] [<done>] <place_at> | i would appreciate it if
    <target> (was | were | could be | went) [<done>] <place_at> | <place> is where <target> (goes |
    belongs | <should> (be | go | stand | sit | end up | live) [<done>]) | <place> is where (i | we)
    (want | would like | need) <target> [to (be | go | stand | sit)] [<done>] | <place> is [the] [right
    | proper | correct | new | best !suggestion] (place | spot | home) for <target> | the [right |
    proper | correct | new | best !suggestion] (place | spot | home | destination | target) (for | of)
    <target> is [<on_to>] <place> | <target> (has | gets | finds) its (place | home | spot) !fragment
    <place_on> | <target> (goes | belongs) <place_at> [and | so] {<polite>} (put | place | move) it
    there | <place_on> (goes | belongs) !suggestion <target> | <place_on> (i | we) (want | would like |
    need) <target> | <wished> {<polite>} <carried> <place> | <wished> please (<place> | <way_wished>
    <place_at>) | here is what (i | we) (want | need) <wished> <place_at> | <thing> on the FLOOR (goes |
    belongs) <way> <place_at> | <thing> on the FLOOR <ought> <be_put> | (i | we) (want | need | would
    like) <place> !suggestion to have <target> on it | <place> is !suggestion for <target> | <target>
    would be better off !suggestion <place_on> | <target> is going !suggestion <place_at> | (<fragment>)
    !fragment | please {NAME} <fragment> | if you please <fragment> | <place> please [NAME] [for]
    <target> | <wished> <way_wished> please <way_wished> <place_at> | <target> please and {<polite>}
    <putting_it> | <fragment> (please | thanks | thank you | if you would | cheers | ta | if you please
    | go | go for it | now | chop | come on) | <wanting> to see <wished> [<care_words>] MOVED [up | down
    | over] <place_to> | <target> needs (a [new] (home | place | spot) | its place) !fragment <place_on>
    | <place> that is where (<target> (goes | belongs | should (be | go)) | (i | we) (want | would like
    | need) <target>) | that is where (i | we) (want | would like | need) <target> [<on_to>] <place> |
    it is <place> [that | where] ((i | we) (want | would like | need) <target> [on] | <target> (goes |
    belongs | should (be | go)) [on]) | <wished> {<polite> | SOON} <carried> <place> | <task_is>
    <target> (<ought> | must | has to | has got to) <be_put> | [target] (object | item) [is] <thing>
    (target (location | place | position) | [target] destination | (location | place | position)
    !fragment) [is] <place> | <wished> to be <done> <place_at>
fragment = <place> <polite> for <target> | <wished> {<polite>} (to <place> | <way_wished> <place_at>) |
    <target> <place> | <place> <target> | <place> for <target> | <wished> [<done> | PUTTING] <place_at>
should = <ought> | must | has to | has got to | must to | have to
ought = should | needs to | ought to | shall | is to | is supposed to | is meant to | wants to | would
    like to !suggestion | can !permission | may !permission | could !suggestion | will !suggestion | is
    going to !suggestion | needs | better !suggestion | must to | have to
be_put = be [<done> | (standing | sitting | resting | located) !suggestion] <way> <place_at> | <go_put>
go_put = (go | stand | sit | end up | live | rest | get | come | move | travel) [<done> | standing |
    sitting | resting] <way> <place_at>
is_put = is [<done> | (standing | sitting | resting | located) !suggestion] <way> <place_on> | (goes |
    gets | ends up | stands | sits | lands | rests | winds up | finds its way | makes it | will be |
    gets back) [<done>] <way> <place_at>
target = [me | us] <thing> [<where_now>]
thing = [<det>] <noun> [of (mine | ours | yours)] | the one (that | which) is <quality>
wished = <thing> [<where_now> !preposition]
way_wished = {<way_part> | (over there | up there | there) !preposition}
det = the | that | this | my | our | your | a | an | one !generic | some !generic | the one
noun = {<adjective>} [<quality>] {SIZE} THING | {<adjective>} <quality> one | {<adjective>} <quality>
    !generic (thing | object | item | container | vessel) | {SIZE} THING (that | which) is [all |
    completely | colored | in] <quality> | {SIZE} THING (in | of) <quality> [color] | {SIZE} THING (with
    [a | the] | of the | in the | in a) <quality> color | {SIZE} THING [there | here | over there] the
    <quality> one | {SIZE} THING colored [in] <quality> | <quality> !generic | {SHADE} ALONE | {SIZE}
    THING <quality> | {SIZE} THING on the FLOOR (that | which) is <quality>
adjective = SIZE | UNKNOWN !adjective
quality = <hue> | TARGET_SIZE {SIZE} [<hue>] | <hue> TARGET_SIZE
hue = {SHADE} TARGET [color | colored]
where_now = the one (on the FLOOR | over there | in front of you) | (that | which) is [standing |
    sitting | placed | currently | now | still | lying !suggestion] (on the FLOOR | over there | there |
    here | in front of you) | (standing | sitting) (on the FLOOR | over there | there | here | in front
    of you) | on the FLOOR !preposition | from the FLOOR | over there | there | over here | here | in
    front of you | [that | which] you [can] see [there | on the FLOOR | in front of you]
source = from ([the | that | this] FLOOR | where it is [now | standing | sitting] | where it stands |
    there | here | its place | the top of the FLOOR | on the FLOOR) | off [of] [the | that | this] FLOOR
    | from [on] the ANY_LEVEL ANY_BOARD !source
place = [<place_det>] <spot> [<place_more>]
place_det = the | that | this | my | our | your | a !generic | its
spot = [empty | free | wooden] [LEVEL] [empty | free | wooden] BOARD | LEVEL one | LEVEL !preposition |
    BOARD (at | on | near !preposition) [the] HEIGHT | BOARD (that | which) is ([the] LEVEL | (at the |
    on the | on) HEIGHT) [one] | HEIGHT BOARD (of | on | in) the [whole | entire | two] (BOARD | BOARDS
    | unit | shelving unit | shelving | rack | stand | stack) | LEVEL [one] of the [two] BOARDS | LEVEL
    of the two | BOARD the LEVEL one | LEVEL !preposition of the (BOARD | BOARDS | unit | shelving unit
    | rack) | FROM_BOTTOM !number [lowest | bottom] BOARD | FROM_TOP !number (highest | top | uppermost)
    BOARD | FROM_BOTTOM !number BOARD [counted | counting] (from (the bottom | below | the ground) | up)
    | FROM_TOP !number BOARD [counted | counting] (from (the top | above) | down) | BOARD [number]
    !number NUMBER | NUMBER !number BOARD | BOARD (below | under | underneath | beneath) !relative [the]
    UNDER [one | ANY_BOARD] | BOARD above !relative [the] OVER [one | ANY_BOARD] | BOARD LEVEL
    !preposition | BOARD ([on] [the] | 's) HEIGHT (one | BOARD) | <place_quality> (BOARD | one) |
    LEVEL_SIZE !preposition | (LEVEL_SIZE LEVEL | LEVEL LEVEL_SIZE) !preposition | <place_quality>
    !generic (thing | object | item)
place_quality = LEVEL_SIZE | LEVEL_SIZE [SHADE] LEVEL | LEVEL LEVEL_SIZE | (SHADE {SHADE} | SIZE {SIZE})
    PLACE_HUE [color | colored] | PLACE_HUE (color | colored)
place_more = over there | there | in front of you | of (the | that | this) (unit | shelving unit | rack)
on_to = on | onto | on to | to
place_on = [up | down | back | over | right !preposition] (on | onto | on to | upon | atop) <place> |
    (in | into | at) <place> | on top of !preposition <place> | up HEIGHT !preposition | up HEIGHT (on |
    of) the BOARD | up HEIGHT (on | onto) <place>
place_to = [up | down | back | over | across] (to | onto | on to | upto) <place> | into <place>
place_at = <place_on> | <place_to>
"""
