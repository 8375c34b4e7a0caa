"""Everyday words that cameras are asked for and a classifier's names lack: their vectors ride in each bundle."""

from __future__ import annotations

WORDS: tuple[str, ...] = tuple(
    """
    person; man; woman; child; baby; crowd of people; face; hand; person at a door; person walking; person on a bicycle;
    worker with a helmet; police officer; animal; dog; cat; bird; horse; cow; sheep; deer; fox; wild boar; bear; rat;
    insect; fish; car; red car; truck; bus; van; motorcycle; bicycle; train; tram; aeroplane; helicopter; drone; boat;
    ship; vehicle; parking lot; traffic; road; street; highway; crossing; bridge; railway; tunnel; sidewalk; building;
    house; door; open door; window; gate; fence; wall; roof; stairs; garage; warehouse; factory; office; shop; kitchen;
    bathroom; bedroom; living room; corridor; laboratory; classroom; hospital; church; city; village; skyline; garden;
    park; forest; tree; flower; plant; grass; field; farm; mountain; hill; desert; beach; sea; ocean; lake; river;
    waterfall; rain; snow; ice; fog; cloud; sky; sunset; night; fire; smoke; flood; lightning; water; mud; rock; cave;
    chair; sofa; bed; table; desk; lamp; clock; book; box; parcel; suitcase; backpack; handbag; umbrella; bottle; cup;
    glass; bowl; plate; knife; fork; spoon; food; fruit; vegetable; bread; cake; pizza; sandwich; meat; drink; coffee;
    refrigerator; oven; sink; toilet; washing machine; television; computer; laptop; keyboard; phone; camera; screen;
    robot; machine; crane; excavator; tractor; tool; hammer; ladder; pipe; cable; wheel; engine; pallet; container;
    barrel; traffic light; traffic sign; street lamp; bench; fountain; statue; flag; poster; text; ball; football;
    tennis racket; skateboard; surfboard; ski; kite; toy; teddy bear; clothing; hat; shoe; tie; jacket; helmet; gun;
    musical instrument; guitar; piano; painting; empty room; empty street; nothing
    """.replace("\n", " ")
    .replace("    ", " ")
    .strip()
    .split("; ")
)
