"""Plugins as users write them: no base class, nothing imported from here."""
